// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	pb "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/internal/errs"
)

func missing(err error) bool { return errors.Is(err, errs.NotFound) }

// box is one container of ours with the config it was made from.
type box struct {
	container.Container
	asked *pb.ContainerConfig
}

func (s *Server) containers() []box {
	var out []box
	for _, c := range s.Containers.List() {
		asked := &pb.ContainerConfig{}
		if c.Spec.Sandbox != "" && recall(c.Spec.Request, asked) {
			out = append(out, box{c, asked})
		}
	}
	return out
}

// container finds one of ours by its ID, or what is unique at the ID's beginning.
func (s *Server) container(id string) (box, error) {
	if id == "" {
		return box{}, errs.New(errs.Invalid, "the container's ID is missing")
	}
	c, err := s.Containers.Get(id)
	if err != nil {
		return box{}, err
	}
	asked := &pb.ContainerConfig{}
	if !strings.HasPrefix(c.ID, id) || c.Spec.Sandbox == "" || !recall(c.Spec.Request, asked) {
		return box{}, errs.New(errs.NotFound, "no such container: %s", id)
	}
	return box{c, asked}, nil
}

// CreateContainer makes a container in a sandbox that is ready.
func (s *Server) CreateContainer(ctx context.Context, r *pb.CreateContainerRequest) (*pb.CreateContainerResponse, error) {
	sb, err := s.sandbox(r.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	if !sb.Ready {
		return nil, errs.New(errs.Conflict, "sandbox %s is not ready", sb.Spec.ID)
	}
	spec, err := containerSpec(r.GetConfig(), sb.Sandbox, sb.pod, readProfile)
	if err != nil {
		return nil, err
	}
	if target, ok := strings.CutPrefix(spec.PidMode, "container:"); ok {
		t, err := s.container(target)
		if err != nil {
			return nil, fmt.Errorf("target of the pid namespace: %w", err)
		}
		if t.Spec.Sandbox != sb.Spec.ID {
			return nil, errs.New(errs.Invalid, "container %s, the target of the pid namespace, is in another sandbox", t.ID)
		}
		spec.PidMode = "container:" + t.ID
	}
	if spec.LogPath != "" {
		if err := os.MkdirAll(filepath.Dir(spec.LogPath), 0o755); err != nil {
			return nil, fmt.Errorf("make the folder of the log: %w", err)
		}
	}
	c, err := s.Containers.Create(ctx, spec)
	if errors.Is(err, errs.Conflict) {
		return nil, errs.New(errs.Exists, "%w", err)
	}
	if err != nil {
		return nil, err
	}
	return &pb.CreateContainerResponse{ContainerId: c.ID}, nil
}

// StartContainer starts one that has never run.
func (s *Server) StartContainer(ctx context.Context, r *pb.StartContainerRequest) (*pb.StartContainerResponse, error) {
	c, err := s.container(r.GetContainerId())
	if err != nil {
		return nil, err
	}
	if c.State != container.Created {
		return nil, errs.New(errs.Conflict, "container %s is %s: only a created one can be started", c.ID, c.State)
	}
	return &pb.StartContainerResponse{}, s.Containers.Start(ctx, c.ID)
}

// StopContainer returns when it has ended. Ended already, or never there, is no error.
func (s *Server) StopContainer(ctx context.Context, r *pb.StopContainerRequest) (*pb.StopContainerResponse, error) {
	c, err := s.container(r.GetContainerId())
	if err == nil {
		grace := time.Duration(max(0, r.GetTimeout())) * time.Second
		err = s.Containers.Stop(ctx, c.ID, &grace)
	}
	if err != nil && !missing(err) {
		return nil, err
	}
	return &pb.StopContainerResponse{}, nil
}

// RemoveContainer removes one, killed first if it runs. Never there is no error.
func (s *Server) RemoveContainer(ctx context.Context, r *pb.RemoveContainerRequest) (*pb.RemoveContainerResponse, error) {
	c, err := s.container(r.GetContainerId())
	if err == nil {
		err = s.Containers.Remove(ctx, c.ID, container.RemoveOptions{Force: true, Volumes: true})
	}
	if err != nil && !missing(err) {
		return nil, err
	}
	return &pb.RemoveContainerResponse{}, nil
}

// ListContainers lists those that all of the filter fits, newest first.
func (s *Server) ListContainers(_ context.Context, r *pb.ListContainersRequest) (*pb.ListContainersResponse, error) {
	f := r.GetFilter()
	out := &pb.ListContainersResponse{}
	for _, c := range s.containers() {
		if !strings.HasPrefix(c.ID, f.GetId()) || !strings.HasPrefix(c.Spec.Sandbox, f.GetPodSandboxId()) ||
			f.GetState() != nil && f.GetState().State != c.state() || !hasLabels(c.asked.GetLabels(), f.GetLabelSelector()) {
			continue
		}
		out.Containers = append(out.Containers, &pb.Container{
			Id: c.ID, PodSandboxId: c.Spec.Sandbox, Metadata: c.asked.GetMetadata(), Image: c.asked.GetImage(), ImageRef: c.ImageID, ImageId: c.ImageID,
			State: c.state(), CreatedAt: c.Created.UnixNano(), Labels: c.asked.GetLabels(), Annotations: c.asked.GetAnnotations(),
		})
	}
	return out, nil
}

func (c box) state() pb.ContainerState {
	switch c.State {
	case container.Created:
		return pb.ContainerState_CONTAINER_CREATED
	case container.Running, container.Paused:
		return pb.ContainerState_CONTAINER_RUNNING
	case container.Exited, container.Removing, container.Dead, container.Restarting:
		return pb.ContainerState_CONTAINER_EXITED
	}
	return pb.ContainerState_CONTAINER_UNKNOWN
}

// ContainerStatus tells one.
func (s *Server) ContainerStatus(_ context.Context, r *pb.ContainerStatusRequest) (*pb.ContainerStatusResponse, error) {
	c, err := s.container(r.GetContainerId())
	if err != nil {
		return nil, err
	}
	out := &pb.ContainerStatusResponse{Status: s.status(c)}
	if r.GetVerbose() {
		text, err := json.Marshal(map[string]any{"pid": c.Pid, "sandboxID": c.Spec.Sandbox, "args": c.Args, "rootfs": c.Rootfs, "name": c.Spec.Name})
		if err != nil {
			return nil, err
		}
		out.Info = map[string]string{"info": string(text)}
	}
	return out, nil
}

// status adds to what is remembered who the process is, while it is.
func (s *Server) status(c box) *pb.ContainerStatus {
	out := c.status()
	user, err := s.Containers.ProcessUser(c.ID)
	if err == nil && user != nil {
		u := &pb.LinuxContainerUser{Uid: int64(user.UID), Gid: int64(user.GID)}
		for _, g := range user.AdditionalGids {
			u.SupplementalGroups = append(u.SupplementalGroups, int64(g))
		}
		out.User = &pb.ContainerUser{Linux: u}
	}
	return out
}

func (c box) status() *pb.ContainerStatus {
	out := &pb.ContainerStatus{
		Id: c.ID, Metadata: c.asked.GetMetadata(), State: c.state(), CreatedAt: c.Created.UnixNano(),
		Image: c.asked.GetImage(), ImageRef: c.ImageID, ImageId: c.ImageID,
		Labels: c.asked.GetLabels(), Annotations: c.asked.GetAnnotations(), Mounts: c.asked.GetMounts(), LogPath: c.LogPath,
		Resources: &pb.ContainerResources{Linux: limitsOf(c.Spec.Resources)}, StopSignal: signalOf(c.StopSignal),
	}
	if !c.StartedAt.IsZero() {
		out.StartedAt = c.StartedAt.UnixNano()
	}
	if out.State != pb.ContainerState_CONTAINER_EXITED {
		return out
	}
	if !c.FinishedAt.IsZero() {
		out.FinishedAt = c.FinishedAt.UnixNano()
	}
	out.ExitCode, out.Message = int32(c.ExitCode), c.Error
	switch {
	case c.OOMKilled:
		out.Reason = "OOMKilled"
	case c.Error != "":
		out.Reason = "StartError"
	case c.ExitCode == 0:
		out.Reason = "Completed"
	default:
		out.Reason = "Error"
	}
	return out
}

// UpdateContainerResources changes limits, at once when it runs.
func (s *Server) UpdateContainerResources(ctx context.Context, r *pb.UpdateContainerResourcesRequest) (*pb.UpdateContainerResourcesResponse, error) {
	c, err := s.container(r.GetContainerId())
	if err != nil {
		return nil, err
	}
	if state := c.state(); state != pb.ContainerState_CONTAINER_RUNNING && state != pb.ContainerState_CONTAINER_CREATED {
		return nil, errs.New(errs.Conflict, "container %s is %s", c.ID, c.State)
	}
	limits := resourcesOf(r.GetLinux())
	limits.OOMScoreAdj = nil // of the process, which has been started with it
	_, err = s.Containers.Update(ctx, c.ID, container.UpdateOptions{Resources: &limits})
	return &pb.UpdateContainerResourcesResponse{}, err
}

// ReopenContainerLog is for who rotated the log's file away.
func (s *Server) ReopenContainerLog(ctx context.Context, r *pb.ReopenContainerLogRequest) (*pb.ReopenContainerLogResponse, error) {
	c, err := s.container(r.GetContainerId())
	if err != nil {
		return nil, err
	}
	return &pb.ReopenContainerLogResponse{}, s.Containers.ReopenLog(ctx, c.ID)
}
