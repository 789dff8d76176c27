// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strings"

	pb "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/internal/errs"
)

// RunPodSandbox makes a sandbox. A second one for the same attempt of the same pod is refused: the first may still be in use.
func (s *Server) RunPodSandbox(ctx context.Context, r *pb.RunPodSandboxRequest) (*pb.RunPodSandboxResponse, error) {
	if h := r.GetRuntimeHandler(); h != "" {
		return nil, errs.New(errs.Invalid, "no runtime handler %q: there is but the default one", h)
	}
	id := make([]byte, 32)
	_, _ = rand.Read(id) // never fails
	spec, err := sandboxSpec(hex.EncodeToString(id), s.Networks.PodNetwork(), r.GetConfig())
	if err != nil {
		return nil, err
	}
	s.making.Lock()
	defer s.making.Unlock()
	for _, b := range s.sandboxes() {
		if samePod(b.pod.GetMetadata(), r.Config.Metadata) {
			return nil, errs.New(errs.Exists, "sandbox %s is attempt %d of pod %s/%s already", b.Spec.ID, r.Config.Metadata.Attempt, r.Config.Metadata.Namespace, r.Config.Metadata.Name)
		}
	}
	box, err := s.Containers.CreateSandbox(ctx, spec)
	if err != nil {
		return nil, err
	}
	s.tell(box.Spec.ID, "create")
	s.tell(box.Spec.ID, "start")
	return &pb.RunPodSandboxResponse{PodSandboxId: box.Spec.ID}, nil
}

func samePod(a, b *pb.PodSandboxMetadata) bool {
	return a.GetName() == b.GetName() && a.GetNamespace() == b.GetNamespace() && a.GetUid() == b.GetUid() && a.GetAttempt() == b.GetAttempt()
}

// sandbox is one of ours with the config it was made from.
type sandbox struct {
	container.Sandbox
	pod *pb.PodSandboxConfig
}

// sandboxes lists ours, oldest first.
func (s *Server) sandboxes() []sandbox {
	var out []sandbox
	for _, b := range s.Containers.Sandboxes() {
		pod := &pb.PodSandboxConfig{}
		if recall(b.Spec.Request, pod) {
			out = append(out, sandbox{b, pod})
		}
	}
	return out
}

// sandbox finds one of ours by its ID, or what is unique at the ID's beginning.
func (s *Server) sandbox(id string) (sandbox, error) {
	if id == "" {
		return sandbox{}, errs.New(errs.Invalid, "the sandbox's ID is missing")
	}
	if b, err := s.Containers.Sandbox(id); err == nil {
		if pod := new(pb.PodSandboxConfig); recall(b.Spec.Request, pod) {
			return sandbox{b, pod}, nil
		}
	}
	var found []sandbox
	for _, b := range s.sandboxes() {
		if strings.HasPrefix(b.Spec.ID, id) {
			found = append(found, b)
		}
	}
	switch len(found) {
	case 0:
		return sandbox{}, errs.New(errs.NotFound, "no such sandbox: %s", id)
	case 1:
		return found[0], nil
	}
	return sandbox{}, errs.New(errs.Invalid, "sandbox ID %s is ambiguous: it begins %d of them", id, len(found))
}

// StopPodSandbox kills what runs in it and frees its network. Done already, or never there, is no error.
func (s *Server) StopPodSandbox(ctx context.Context, r *pb.StopPodSandboxRequest) (*pb.StopPodSandboxResponse, error) {
	box, err := s.sandbox(r.GetPodSandboxId())
	if missing(err) {
		return &pb.StopPodSandboxResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := s.Containers.StopSandbox(ctx, box.Spec.ID); err != nil && !missing(err) {
		return nil, err
	}
	if box.Ready {
		s.tell(box.Spec.ID, "die")
	}
	return &pb.StopPodSandboxResponse{}, nil
}

// RemovePodSandbox removes it with its containers. Never there is no error.
func (s *Server) RemovePodSandbox(ctx context.Context, r *pb.RemovePodSandboxRequest) (*pb.RemovePodSandboxResponse, error) {
	box, err := s.sandbox(r.GetPodSandboxId())
	if missing(err) {
		return &pb.RemovePodSandboxResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := s.Containers.StopSandbox(ctx, box.Spec.ID); err != nil && !missing(err) {
		return nil, err
	}
	if box.Ready {
		s.tell(box.Spec.ID, "die")
	}
	for _, c := range s.containers() {
		if c.Spec.Sandbox != box.Spec.ID {
			continue
		}
		if err := s.Containers.Remove(ctx, c.ID, container.RemoveOptions{Force: true, Volumes: true}); err != nil && !missing(err) {
			return nil, err
		}
	}
	if err := s.Containers.RemoveSandbox(ctx, box.Spec.ID); err != nil {
		return nil, err
	}
	s.tell(box.Spec.ID, "destroy")
	return &pb.RemovePodSandboxResponse{}, nil
}

// PodSandboxStatus tells one.
func (s *Server) PodSandboxStatus(_ context.Context, r *pb.PodSandboxStatusRequest) (*pb.PodSandboxStatusResponse, error) {
	box, err := s.sandbox(r.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	out := &pb.PodSandboxStatusResponse{Status: box.status()}
	if r.GetVerbose() {
		text, err := json.Marshal(map[string]any{"cgroup": box.Cgroup, "netns": box.NetnsPath, "network": box.Spec.Network})
		if err != nil {
			return nil, err
		}
		out.Info = map[string]string{"info": string(text)}
	}
	return out, nil
}

func (b sandbox) state() pb.PodSandboxState {
	if b.Ready {
		return pb.PodSandboxState_SANDBOX_READY
	}
	return pb.PodSandboxState_SANDBOX_NOTREADY
}

func (b sandbox) status() *pb.PodSandboxStatus {
	out := &pb.PodSandboxStatus{
		Id: b.Spec.ID, Metadata: b.pod.GetMetadata(), State: b.state(), CreatedAt: b.Created.UnixNano(),
		Network: &pb.PodSandboxNetworkStatus{}, Labels: b.pod.GetLabels(), Annotations: b.pod.GetAnnotations(),
		Linux: &pb.LinuxPodSandboxStatus{Namespaces: &pb.Namespace{Options: b.pod.GetLinux().GetSecurityContext().GetNamespaceOptions()}},
	}
	if b.IP.IsValid() && b.Ready {
		out.Network.Ip = b.IP.String()
	}
	if out.Linux.Namespaces.Options == nil {
		out.Linux.Namespaces.Options = &pb.NamespaceOption{}
	}
	return out
}

// ListPodSandbox lists those that all of the filter fits, newest first.
func (s *Server) ListPodSandbox(_ context.Context, r *pb.ListPodSandboxRequest) (*pb.ListPodSandboxResponse, error) {
	f := r.GetFilter()
	out := &pb.ListPodSandboxResponse{}
	for _, b := range s.sandboxes() {
		if !strings.HasPrefix(b.Spec.ID, f.GetId()) || f.GetState() != nil && f.GetState().State != b.state() || !hasLabels(b.pod.GetLabels(), f.GetLabelSelector()) {
			continue
		}
		out.Items = append([]*pb.PodSandbox{{
			Id: b.Spec.ID, Metadata: b.pod.GetMetadata(), State: b.state(), CreatedAt: b.Created.UnixNano(),
			Labels: b.pod.GetLabels(), Annotations: b.pod.GetAnnotations(),
		}}, out.Items...)
	}
	return out, nil
}

func hasLabels(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// UpdatePodSandboxResources changes the limits of a sandbox whose group is ours. Who named a group limits that itself.
func (s *Server) UpdatePodSandboxResources(ctx context.Context, r *pb.UpdatePodSandboxResourcesRequest) (*pb.UpdatePodSandboxResourcesResponse, error) {
	box, err := s.sandbox(r.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	if box.Spec.CgroupOutside == "" && r.GetResources() != nil {
		if err := s.Containers.UpdateSandbox(ctx, box.Spec.ID, resourcesOf(r.Resources)); err != nil {
			return nil, err
		}
	}
	return &pb.UpdatePodSandboxResourcesResponse{}, nil
}
