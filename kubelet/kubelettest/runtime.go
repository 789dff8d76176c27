// SPDX-License-Identifier: Apache-2.0

// Package kubelettest has what the kubelet's tests stand on: a Runtime whose containers are scripts in Go, and an API
// that is a map with watch.
//
// FakeRuntime keeps podruntime's contract and fails the test when the kubelet breaks it: two containers of a name alive at
// once, a container in a sandbox that is gone, a sandbox removed under a running container.
package kubelettest

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/podruntime"
)

// Main is what a container runs: it returns the exit code when it is done or ctx ended (SIGKILL). signals gets the others.
type Main func(ctx context.Context, c *Process) int

// Process is a running container as its Main sees it.
type Process struct {
	Spec    podruntime.ContainerSpec
	Signals <-chan int
	Stdin   io.Reader
	rt      *FakeRuntime
	id      string
}

// Log writes a line to the container's log.
func (p *Process) Log(line string) {
	p.rt.mu.Lock()
	defer p.rt.mu.Unlock()
	c := p.rt.containers[p.id]
	c.log = append(c.log, podruntime.LogLine{Time: time.Now(), Stream: "stdout", Data: []byte(line + "\n")})
	p.rt.broadcast()
}

// UntilStopped is a Main that ends with code 0 on the stop signal.
func UntilStopped(ctx context.Context, p *Process) int {
	select {
	case <-ctx.Done():
		return 137
	case <-p.Signals:
		return 0
	}
}

// Exits is a Main that ends at once.
func Exits(code int) Main { return func(context.Context, *Process) int { return code } }

type container struct {
	podruntime.Container
	spec    podruntime.ContainerSpec
	log     []podruntime.LogLine
	kill    context.CancelFunc
	signals chan int
	done    chan struct{}
}

// FakeRuntime is a podruntime.Runtime in memory. Set the exported fields before use.
type FakeRuntime struct {
	Images map[string]podruntime.Image // by reference: in the store
	Remote map[string]podruntime.Image // by reference: can be pulled
	Mains  map[string]Main             // by image reference; default UntilStopped
	// ExecFunc answers Exec; nil: exit code 0.
	ExecFunc func(ctx context.Context, c podruntime.ContainerSpec, e podruntime.ExecSpec, s podruntime.Stdio) (int, error)
	// StartError keeps containers of an image reference from starting.
	StartError map[string]error
	Fault      func(broken string) // told when the contract is broken; must be set

	mu         sync.Mutex // guards what follows
	sandboxes  map[string]podruntime.Sandbox
	containers map[string]*container
	next       int
	changed    chan struct{} // closed and replaced at every change
	log        []string
	pulls      int
}

// NewRuntime makes an empty one; broken is told of breaches of the contract.
func NewRuntime(broken func(string)) *FakeRuntime {
	return &FakeRuntime{
		Images: map[string]podruntime.Image{}, Remote: map[string]podruntime.Image{}, Mains: map[string]Main{}, StartError: map[string]error{},
		Fault: broken, sandboxes: map[string]podruntime.Sandbox{}, containers: map[string]*container{}, changed: make(chan struct{}),
	}
}

var _ podruntime.Runtime = (*FakeRuntime)(nil)

// AddImage puts an image into the store.
func (f *FakeRuntime) AddImage(ref string, main Main) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Images[ref] = podruntime.Image{ID: "sha256:" + ref, Names: []string{ref}, Size: 1000, Local: true}
	f.Mains[ref] = main
}

// AddRemote makes an image known that can be pulled.
func (f *FakeRuntime) AddRemote(ref string, img podruntime.Image) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Remote[ref] = img
}

// Calls is what was asked for, in order: "sandbox ID", "create NAME", "start NAME", "signal NAME N", "remove NAME".
func (f *FakeRuntime) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log)
}

// Pulls is how often an image was pulled.
func (f *FakeRuntime) Pulls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pulls
}

// LoseSandboxes has all sandboxes lose their namespaces, and their containers end, as a reboot does.
func (f *FakeRuntime) LoseSandboxes() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, s := range f.sandboxes {
		s.Ready = false
		f.sandboxes[id] = s
	}
	for _, c := range f.containers {
		if c.State == podruntime.Running {
			c.kill()
		}
	}
	f.broadcast()
}

// Spec finds what a running container was made from, by the container's name in the pod.
func (f *FakeRuntime) Spec(name string) (podruntime.ContainerSpec, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.containers {
		if c.Labels[podruntime.LabelContainerName] == name && c.State == podruntime.Running {
			return c.spec, true
		}
	}
	return podruntime.ContainerSpec{}, false
}

// broadcast wakes who watches. The caller holds mu.
func (f *FakeRuntime) broadcast() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *FakeRuntime) note(format string, args ...any) {
	f.log = append(f.log, fmt.Sprintf(format, args...))
}

// EnsureSandbox implements podruntime.
func (f *FakeRuntime) EnsureSandbox(_ context.Context, spec podruntime.SandboxSpec) (podruntime.Sandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s, ok := f.sandboxes[spec.ID]; ok && s.Ready {
		return s, nil
	}
	f.next++
	s := podruntime.Sandbox{ID: spec.ID, Labels: maps.Clone(spec.Labels), Created: time.Now(), Ready: true}
	if !spec.HostNetwork {
		s.IPs = []netip.Addr{netip.AddrFrom4([4]byte{127, 42, byte(f.next >> 8), byte(f.next)})}
	}
	f.sandboxes[spec.ID] = s
	f.note("sandbox %s", spec.ID)
	f.broadcast()
	return s, nil
}

// RemoveSandbox implements podruntime.
func (f *FakeRuntime) RemoveSandbox(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.containers {
		if c.Sandbox == id && c.State == podruntime.Running {
			f.Fault("sandbox " + id + " removed while " + c.Name + " runs")
		}
	}
	if _, ok := f.sandboxes[id]; ok {
		f.note("removesandbox %s", id)
	}
	delete(f.sandboxes, id)
	return nil
}

// ListSandboxes implements podruntime.
func (f *FakeRuntime) ListSandboxes(context.Context) ([]podruntime.Sandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Values(f.sandboxes)), nil
}

// FindImage implements podruntime.
func (f *FakeRuntime) FindImage(_ context.Context, ref string) (podruntime.Image, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, img := range f.Images {
		if name == ref || img.ID == ref {
			return img, true, nil
		}
	}
	return podruntime.Image{}, false, nil
}

// PullImage implements podruntime.
func (f *FakeRuntime) PullImage(_ context.Context, ref string, _ []podruntime.Credential) (podruntime.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pulls++
	img, ok := f.Remote[ref]
	if !ok {
		return img, errs.New(errs.NotFound, "no such image: %s", ref)
	}
	f.Images[ref] = img
	return img, nil
}

// ListImages implements podruntime.
func (f *FakeRuntime) ListImages(context.Context) ([]podruntime.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Values(f.Images)), nil
}

// CreateContainer implements podruntime.
func (f *FakeRuntime) CreateContainer(_ context.Context, spec podruntime.ContainerSpec) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := spec.Labels[podruntime.LabelContainerName]
	for _, c := range f.containers {
		if c.Name == spec.Name {
			return "", errs.New(errs.Exists, "the name %s is taken", spec.Name)
		}
		if c.Labels[podruntime.LabelContainerName] == name && c.Labels[podruntime.LabelPodUID] == spec.Labels[podruntime.LabelPodUID] &&
			c.State != podruntime.Exited {
			f.Fault("a second " + name + " beside " + c.Name)
		}
	}
	if s, ok := f.sandboxes[spec.Sandbox]; !ok || !s.Ready {
		f.Fault(spec.Name + " in sandbox " + spec.Sandbox + ", which is gone")
	}
	f.next++
	id := fmt.Sprintf("%064x", f.next)
	f.containers[id] = &container{spec: spec, signals: make(chan int, 10), done: make(chan struct{}), Container: podruntime.Container{
		ID: id, Name: spec.Name, Sandbox: spec.Sandbox, ImageID: spec.Image, ImageRef: spec.ImageRef, Labels: maps.Clone(spec.Labels),
		State: podruntime.Created, Created: time.Now(), LogPath: spec.LogPath}}
	f.note("create %s", name)
	f.broadcast()
	return id, nil
}

// StartContainer implements podruntime.
func (f *FakeRuntime) StartContainer(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.containers[id]
	f.note("start %s", c.Labels[podruntime.LabelContainerName])
	defer f.broadcast()
	if err := f.StartError[c.ImageRef]; err != nil {
		c.State, c.FinishedAt, c.Error, c.ExitCode = podruntime.Exited, time.Now(), err.Error(), 127
		close(c.done)
		return err
	}
	main := f.Mains[c.ImageRef]
	if main == nil {
		main = UntilStopped
	}
	ctx, kill := context.WithCancel(context.Background())
	f.next++
	c.State, c.StartedAt, c.kill, c.Pid = podruntime.Running, time.Now(), kill, f.next
	go func() {
		code := main(ctx, &Process{Spec: c.spec, Signals: c.signals, rt: f, id: id})
		kill()
		f.mu.Lock()
		defer f.mu.Unlock()
		c.State, c.FinishedAt, c.ExitCode, c.Pid = podruntime.Exited, time.Now(), code, 0
		close(c.done)
		f.broadcast()
	}()
	return nil
}

// SignalContainer implements podruntime.
func (f *FakeRuntime) SignalContainer(_ context.Context, id string, signal int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.containers[id]
	if !ok || c.State != podruntime.Running {
		return nil
	}
	f.note("signal %s %d", c.Labels[podruntime.LabelContainerName], signal)
	if signal == 9 {
		c.kill()
		return nil
	}
	select {
	case c.signals <- signal:
	default:
	}
	return nil
}

// RemoveContainer implements podruntime.
func (f *FakeRuntime) RemoveContainer(_ context.Context, id string) error {
	f.mu.Lock()
	c, ok := f.containers[id]
	f.mu.Unlock()
	if !ok {
		return nil
	}
	if c.kill != nil {
		c.kill()
		<-c.done
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("remove %s", c.Labels[podruntime.LabelContainerName])
	delete(f.containers, id)
	return nil
}

// ListContainers implements podruntime.
func (f *FakeRuntime) ListContainers(_ context.Context, podUID string) ([]podruntime.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []podruntime.Container
	for _, c := range f.containers {
		if podUID == "" || c.Labels[podruntime.LabelPodUID] == podUID {
			out = append(out, c.Container)
		}
	}
	return out, nil
}

// Logs implements podruntime.
func (f *FakeRuntime) Logs(ctx context.Context, id string, o podruntime.LogOptions) iter.Seq2[podruntime.LogLine, error] {
	return func(yield func(podruntime.LogLine, error) bool) {
		sent, first := 0, true
		for {
			f.mu.Lock()
			c, ok := f.containers[id]
			if !ok {
				f.mu.Unlock()
				yield(podruntime.LogLine{}, errs.New(errs.NotFound, "no such container: %s", id))
				return
			}
			if first && o.Tail >= 0 {
				sent = max(len(c.log)-o.Tail, 0)
			}
			lines, over, wait := slices.Clone(c.log[sent:]), c.State == podruntime.Exited, f.changed
			sent, first = len(c.log), false
			f.mu.Unlock()
			for _, l := range lines {
				if l.Time.UnixNano() >= o.SinceUnixNano && !yield(l, nil) {
					return
				}
			}
			if !o.Follow || over {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-wait:
			}
		}
	}
}

// Exec implements podruntime.
func (f *FakeRuntime) Exec(ctx context.Context, id string, e podruntime.ExecSpec, s podruntime.Stdio) (int, error) {
	f.mu.Lock()
	c, ok := f.containers[id]
	f.mu.Unlock()
	if !ok || c.State != podruntime.Running {
		return 0, errs.New(errs.Conflict, "container %s is not running", id)
	}
	if f.ExecFunc == nil {
		return 0, nil
	}
	return f.ExecFunc(ctx, c.spec, e, s)
}

// Attach implements podruntime: it echoes.
func (f *FakeRuntime) Attach(ctx context.Context, id string, _ bool, s podruntime.Stdio) error {
	f.mu.Lock()
	c := f.containers[id]
	f.mu.Unlock()
	done := make(chan error, 1)
	if s.Stdin != nil && s.Stdout != nil {
		go func() {
			_, err := io.Copy(s.Stdout, s.Stdin)
			done <- err
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case <-c.done:
		return nil
	case err := <-done:
		return err
	}
}

// PortForward implements podruntime: it dials localhost.
func (f *FakeRuntime) PortForward(ctx context.Context, sandboxID string, port uint16, conn io.ReadWriteCloser) error {
	var d net.Dialer
	to, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer to.Close()
	stop := context.AfterFunc(ctx, func() { to.Close() })
	defer stop()
	go func() {
		_, _ = io.Copy(to, conn)
		_ = to.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(conn, to)
	return err
}

// Events implements podruntime: every change is one.
func (f *FakeRuntime) Events(ctx context.Context) iter.Seq2[podruntime.Event, error] {
	return func(yield func(podruntime.Event, error) bool) {
		f.mu.Lock()
		wait := f.changed
		f.mu.Unlock()
		if !yield(podruntime.Event{Type: podruntime.Subscribed}, nil) {
			return
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-wait:
			}
			f.mu.Lock()
			wait = f.changed
			uids := map[string]bool{}
			for _, c := range f.containers {
				uids[c.Labels[podruntime.LabelPodUID]] = true
			}
			for _, s := range f.sandboxes {
				uids[s.Labels[podruntime.LabelPodUID]] = true
			}
			f.mu.Unlock()
			for uid := range uids {
				if !yield(podruntime.Event{Type: podruntime.Changed, PodUID: uid}, nil) {
					return
				}
			}
		}
	}
}

// ContainerStats implements podruntime.
func (f *FakeRuntime) ContainerStats(context.Context, string) (podruntime.ContainerStats, error) {
	return podruntime.ContainerStats{Time: time.Now(), CPUNanos: 5e8, MemoryWorkingSet: 4096, Pids: 2}, nil
}

// SandboxStats implements podruntime.
func (f *FakeRuntime) SandboxStats(context.Context, string) (podruntime.SandboxStats, error) {
	return podruntime.SandboxStats{Time: time.Now(), Interface: "eth0", RxBytes: 7}, nil
}

// Close ends all containers, as the end of a test needs.
func (f *FakeRuntime) Close() {
	f.mu.Lock()
	var running []*container
	for _, c := range f.containers {
		if c.State == podruntime.Running {
			c.kill()
			running = append(running, c)
		}
	}
	f.mu.Unlock()
	for _, c := range running {
		<-c.done
	}
}
