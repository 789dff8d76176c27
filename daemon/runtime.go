// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/podruntime"
)

// podNetwork is the engine network that pods' sandboxes join.
const podNetwork = "pods"

// labelImageRef keeps the reference as the pod says it: the engine is asked by ID.
const labelImageRef = "io.knarr.image-ref"

// runtime is the kubelet's podruntime.Runtime on the engine: it renames, and decides nothing.
type runtime struct{ *engine }

var _ podruntime.Runtime = runtime{}

func (r runtime) EnsureSandbox(ctx context.Context, s podruntime.SandboxSpec) (podruntime.Sandbox, error) {
	spec := container.SandboxSpec{
		ID: s.ID, Hostname: s.Hostname,
		HostNetwork: s.HostNetwork, HostPID: s.HostPID, HostIPC: s.HostIPC, SharePID: s.SharePID,
		Network: podNetwork, CgroupParent: s.CgroupParent, Resources: resources(s.Resources),
		Sysctls: s.Sysctls, Labels: s.Labels,
		DNS: s.DNS.Servers, DNSSearch: s.DNS.Searches, DNSOptions: s.DNS.Options,
	}
	for _, p := range s.HostPorts {
		spec.Ports = append(spec.Ports, container.Port{
			HostIP: p.HostIP, HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: strings.ToLower(p.Protocol),
		})
	}
	box, err := r.containers.CreateSandbox(ctx, spec)
	if err != nil {
		return podruntime.Sandbox{}, err
	}
	return sandbox(box), nil
}

func (r runtime) RemoveSandbox(ctx context.Context, id string) error {
	return r.containers.RemoveSandbox(ctx, id)
}

func (r runtime) ListSandboxes(context.Context) ([]podruntime.Sandbox, error) {
	var out []podruntime.Sandbox
	for _, b := range r.containers.Sandboxes() {
		if b.Spec.Labels[podruntime.LabelPodUID] != "" {
			out = append(out, sandbox(b))
		}
	}
	return out, nil
}

func sandbox(b container.Sandbox) podruntime.Sandbox {
	out := podruntime.Sandbox{ID: b.Spec.ID, Labels: b.Spec.Labels, Created: b.Created, Ready: b.Ready}
	if b.IP.IsValid() {
		out.IPs = []netip.Addr{b.IP}
	}
	return out
}

func (r runtime) FindImage(_ context.Context, ref string) (podruntime.Image, bool, error) {
	img, err := r.images.Get(ref)
	if errors.Is(err, errs.NotFound) {
		return podruntime.Image{}, false, nil
	}
	return podImage(img), err == nil, err
}

func (r runtime) PullImage(ctx context.Context, ref string, creds []podruntime.Credential) (podruntime.Image, error) {
	if len(creds) == 0 {
		creds = []podruntime.Credential{{}}
	}
	var failed error
	for _, c := range creds {
		img, err := r.images.Pull(ctx, ref, image.PullOptions{Auth: image.Auth(c)})
		if err == nil {
			return podImage(img), nil
		}
		failed = err
	}
	return podruntime.Image{}, failed
}

func (r runtime) ListImages(context.Context) ([]podruntime.Image, error) {
	var out []podruntime.Image
	for _, img := range r.images.List() {
		if !img.Cache {
			out = append(out, podImage(img))
		}
	}
	return out, nil
}

func podImage(img image.Image) podruntime.Image {
	return podruntime.Image{
		ID: img.ID.String(), Names: canonical(img.Names), Digests: canonical(img.RepoDigests), Size: img.Size,
		User: img.Config.Config.User, StopSignal: img.Config.Config.StopSignal, Local: img.Local,
	}
}

// canonical spells names out: "web:1" is docker.io/library/web:1 to Kubernetes.
func canonical(familiar []string) []string {
	out := make([]string, 0, len(familiar))
	for _, f := range familiar {
		if n, err := reference.ParseNormalizedNamed(f); err == nil {
			f = n.String()
		}
		out = append(out, f)
	}
	return out
}

func (r runtime) CreateContainer(ctx context.Context, s podruntime.ContainerSpec) (string, error) {
	box, err := r.containers.Sandbox(s.Sandbox)
	if err != nil {
		return "", err
	}
	labels := map[string]string{labelImageRef: s.ImageRef}
	for k, v := range s.Labels {
		labels[k] = v
	}
	spec := container.Spec{
		Name: s.Name, Image: s.Image, Labels: labels, Sandbox: s.Sandbox,
		Entrypoint: s.Command, Cmd: s.Args, Env: s.Env, Dir: s.Dir, User: s.User,
		Hostname: box.Spec.Hostname, Terminal: s.Terminal, OpenStdin: s.Stdin, StdinOnce: s.StdinOnce, StopSignal: s.StopSignal,
		LogPath: s.LogPath, CgroupParent: s.CgroupParent, Resources: resources(s.Resources),
		Security: container.Security{
			Privileged: s.Security.Privileged, CapAdd: s.Security.CapAdd, CapDrop: s.Security.CapDrop,
			NoNewPrivileges: s.Security.NoNewPrivileges, ReadonlyRootfs: s.Security.ReadonlyRootfs, Seccomp: s.Security.Seccomp,
		},
	}
	if s.Security.UnmaskedProc {
		spec.Security.MaskedPaths, spec.Security.ReadonlyPaths = []string{}, []string{}
	}
	for _, g := range s.Groups {
		spec.Groups = append(spec.Groups, strconv.FormatInt(g, 10))
	}
	for _, d := range s.Devices {
		spec.Resources.Devices = append(spec.Resources.Devices, container.Device(d))
	}
	for _, m := range s.Mounts {
		spec.Mounts = append(spec.Mounts, container.Mount{
			Type: "bind", Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly, Propagation: m.Propagation,
		})
	}
	c, err := r.containers.Create(ctx, spec)
	return c.ID, err
}

func resources(p podruntime.Resources) container.Resources {
	out := container.Resources{
		CPUShares: p.CPUShares, CPUPeriod: p.CPUPeriod, CPUQuota: p.CPUQuota,
		Memory: p.Memory, PidsLimit: p.PidsLimit, OOMScoreAdj: p.OOMScoreAdj,
	}
	if p.Memory > 0 {
		out.MemorySwap = p.Memory
	}
	return out
}

func (r runtime) StartContainer(ctx context.Context, id string) error {
	return r.containers.Start(ctx, id)
}

func (r runtime) SignalContainer(ctx context.Context, id string, signal int) error {
	c, err := r.containers.Get(id)
	if err != nil {
		return ignore(err, errs.NotFound)
	}
	name := strconv.Itoa(signal)
	if signal == 0 {
		name = r.stopSignal(c)
	}
	return ignore(r.containers.Kill(ctx, id, name), errs.Conflict, errs.NotFound)
}

// stopSignal is the container's own, its image's, or SIGTERM.
func (r runtime) stopSignal(c container.Container) string {
	if c.Spec.StopSignal != "" {
		return c.Spec.StopSignal
	}
	if img, err := r.images.Get(c.ImageID); err == nil && img.Config.Config.StopSignal != "" {
		return img.Config.Config.StopSignal
	}
	return unix.SignalName(unix.SIGTERM)
}

func (r runtime) RemoveContainer(ctx context.Context, id string) error {
	return ignore(r.containers.Remove(ctx, id, container.RemoveOptions{Force: true, Volumes: true}), errs.NotFound)
}

func (r runtime) ListContainers(_ context.Context, podUID string) ([]podruntime.Container, error) {
	var out []podruntime.Container
	for _, c := range r.containers.List() {
		if uid := c.Spec.Labels[podruntime.LabelPodUID]; uid != "" && (podUID == "" || uid == podUID) {
			out = append(out, podContainer(c))
		}
	}
	return out, nil
}

func podContainer(c container.Container) podruntime.Container {
	out := podruntime.Container{
		ID: c.ID, Name: c.Spec.Name, Sandbox: c.Spec.Sandbox, ImageID: c.ImageID, ImageRef: c.Spec.Labels[labelImageRef],
		Labels: c.Spec.Labels, State: podruntime.Exited, Pid: c.Pid,
		Created: c.Created, StartedAt: c.StartedAt, FinishedAt: c.FinishedAt,
		ExitCode: c.ExitCode, OOMKilled: c.OOMKilled, Error: c.Error, LogPath: c.LogPath,
	}
	if c.ExitCode > 128 && c.ExitCode < 128+65 {
		out.Signal = c.ExitCode - 128
	}
	switch c.State {
	case container.Created:
		out.State = podruntime.Created
	case container.Running, container.Paused:
		out.State = podruntime.Running
	}
	return out
}

func (r runtime) Logs(ctx context.Context, id string, o podruntime.LogOptions) iter.Seq2[podruntime.LogLine, error] {
	opts := container.LogOptions{Stdout: true, Stderr: true, Follow: o.Follow, Tail: o.Tail}
	if o.SinceUnixNano != 0 {
		opts.Since = time.Unix(0, o.SinceUnixNano)
	}
	return func(yield func(podruntime.LogLine, error) bool) {
		for l, err := range r.containers.Logs(ctx, id, opts) {
			if !yield(podruntime.LogLine(l), err) {
				return
			}
		}
	}
}

func (r runtime) Exec(ctx context.Context, id string, s podruntime.ExecSpec, io podruntime.Stdio) (int, error) {
	st, done := streams(io)
	defer done()
	exit, err := r.containers.Exec(ctx, id, container.ExecSpec{Args: s.Args, Terminal: s.Terminal, Stdin: s.Stdin}, st)
	return exit.Code, err
}

func (r runtime) Attach(ctx context.Context, id string, _ bool, io podruntime.Stdio) error {
	st, done := streams(io)
	defer done()
	return r.containers.Attach(ctx, id, st, container.AttachOptions{})
}

// streams hands resizes on until done is called.
func streams(s podruntime.Stdio) (_ container.Streams, done func()) {
	out := container.Streams{Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr}
	if s.Resize == nil {
		return out, func() {}
	}
	sizes, stop := make(chan container.Size), make(chan struct{})
	out.Resize = sizes
	go func() {
		defer close(sizes)
		for {
			select {
			case sz, ok := <-s.Resize:
				if !ok {
					return
				}
				select {
				case sizes <- container.Size(sz):
				case <-stop:
					return
				}
			case <-stop:
				return
			}
		}
	}()
	return out, func() { close(stop) }
}

func (r runtime) PortForward(ctx context.Context, sandboxID string, port uint16, conn io.ReadWriteCloser) error {
	target, err := r.containers.DialSandbox(ctx, sandboxID, port)
	if err != nil {
		return fmt.Errorf("forward to port %d of %s: %w", port, sandboxID, err)
	}
	return splice(ctx, conn, target)
}

func (r runtime) Events(ctx context.Context) iter.Seq2[podruntime.Event, error] {
	return func(yield func(podruntime.Event, error) bool) {
		since := time.Now() // the engine's ring replays from here, so nothing is missed before the range below begins
		if !yield(podruntime.Event{Type: podruntime.Subscribed}, nil) {
			return
		}
		for ev, err := range r.containers.Events(ctx, since) {
			if err != nil {
				yield(podruntime.Event{}, err)
				return
			}
			uid := ev.Attributes[podruntime.LabelPodUID]
			if uid == "" {
				continue
			}
			out := podruntime.Event{Type: podruntime.Changed, PodUID: uid, ID: ev.ID}
			switch ev.Action {
			case "start":
				out.Type = podruntime.Started
			case "die":
				out.Type = podruntime.Died
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}

func (r runtime) ContainerStats(ctx context.Context, id string) (podruntime.ContainerStats, error) {
	s, err := r.containers.Stats(ctx, id)
	if err != nil {
		return podruntime.ContainerStats{}, err
	}
	out := podruntime.ContainerStats{
		Time: s.Time, CPUNanos: s.CPU.Total, MemoryUsage: s.MemoryUsage, MemoryWorkingSet: s.MemoryWorkingSet, MemoryRSS: s.MemoryRSS,
		PageFaults: s.PageFaults, MajorPageFaults: s.MajorFaults, Pids: s.Pids,
	}
	if bytes, inodes, err := r.images.SnapshotUsage(id); err == nil {
		out.RootfsBytes, out.RootfsInodes = uint64(bytes), uint64(inodes)
	}
	return out, nil
}

func (r runtime) SandboxStats(ctx context.Context, id string) (podruntime.SandboxStats, error) {
	s, err := r.containers.SandboxStats(ctx, id)
	if err != nil {
		return podruntime.SandboxStats{}, err
	}
	out := podruntime.SandboxStats{
		Time: s.Time, CPUNanos: s.CPU.Total, MemoryUsage: s.MemoryUsage, MemoryWorkingSet: s.MemoryWorkingSet, MemoryRSS: s.MemoryRSS,
		Pids: s.Pids,
	}
	for name, n := range s.Networks {
		out.Interface, out.RxBytes, out.RxErrors, out.TxBytes, out.TxErrors = name, n.RxBytes, n.RxErrors, n.TxBytes, n.TxErrors
	}
	return out, nil
}

// ignore turns errors of these kinds into none.
func ignore(err error, kinds ...error) error {
	for _, k := range kinds {
		if errors.Is(err, k) {
			return nil
		}
	}
	return err
}
