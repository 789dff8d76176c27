// SPDX-License-Identifier: Apache-2.0

// Package podruntime says what the kubelet needs from whatever runs containers: a handful of small interfaces and the
// values they exchange.
//
// The kubelet knows no engine; an adapter of a few lines (in daemon) maps these to one. Words: a sandbox is what the
// containers of a pod share (namespaces, network address, cgroup) and has an ID that the kubelet chooses; a container
// belongs to one sandbox and has an ID that the runtime chooses. The runtime keeps labels as they were given: after a
// restart the kubelet rebuilds all it knows from ListSandboxes, ListContainers and the API.
//
// Contract for all methods: they may be called concurrently; they return when the thing is done or ctx ended; errors wrap
// the kinds of internal/errs; removing what is not there is no error; values returned belong to the caller.
//
// The package has no code that runs: no state, no goroutine, no file.
package podruntime

import (
	"context"
	"io"
	"iter"
)

// Runtime is all of it.
type Runtime interface {
	Sandboxes
	Images
	Containers
	Streams
	Observer
}

// Sandboxes make and remove what a pod's containers share.
type Sandboxes interface {
	// EnsureSandbox makes the sandbox unless one with spec.ID exists and works, in which case that is answered. One that
	// exists but lost its namespaces (a reboot) is made anew under its ID, with another address if need be.
	EnsureSandbox(ctx context.Context, spec SandboxSpec) (Sandbox, error)
	// RemoveSandbox releases address, ports, namespaces and cgroup. Its containers have exited; they stay listed, and their
	// logs readable, until they are removed themselves.
	RemoveSandbox(ctx context.Context, id string) error
	ListSandboxes(ctx context.Context) ([]Sandbox, error)
}

// Images are what is on this node and what registries have.
type Images interface {
	// FindImage looks an image up by reference or ID in the node's store only; ok is false when it is not there.
	FindImage(ctx context.Context, ref string) (img Image, ok bool, err error)
	// PullImage fetches from a registry (or a peer). Errors: errs.NotFound, errs.Denied, errs.Invalid (a bad reference), else transient.
	// creds are tried in order; none means anonymous.
	PullImage(ctx context.Context, ref string, creds []Credential) (Image, error)
	ListImages(ctx context.Context) ([]Image, error)
}

// Containers have one life each: created, started once, exited, removed. A restart is a new container.
type Containers interface {
	// CreateContainer makes everything but the process. A name in use is errs.Exists.
	CreateContainer(ctx context.Context, spec ContainerSpec) (id string, err error)
	// StartContainer executes it. When it cannot (no such command, permission), the container is left exited with Error set
	// and the same error is returned.
	StartContainer(ctx context.Context, id string) error
	// SignalContainer sends a signal to the main process: 0 means the container's own stop signal. One that does not run is no error.
	SignalContainer(ctx context.Context, id string, signal int) error
	// RemoveContainer deletes it, its layer and its log. A running one is killed first.
	RemoveContainer(ctx context.Context, id string) error
	// ListContainers lists those with label LabelPodUID equal to podUID; "" lists all that have the label.
	ListContainers(ctx context.Context, podUID string) ([]Container, error)
}

// Streams connect people with processes.
type Streams interface {
	// Logs yields what the container wrote, oldest first. With Follow it goes on until the container has exited and all was
	// yielded, or ctx ends. An error is the last element.
	Logs(ctx context.Context, id string, o LogOptions) iter.Seq2[LogLine, error]
	// Exec runs a further process in a running container, and answers its exit code. err is for what kept it from running.
	// When ctx ends, the process is killed.
	Exec(ctx context.Context, id string, spec ExecSpec, s Stdio) (exitCode int, err error)
	// Attach connects to the main process; it returns when that has exited, the caller's streams ended, or ctx ended.
	Attach(ctx context.Context, id string, terminal bool, s Stdio) error
	// PortForward dials localhost:port inside the sandbox's network namespace and copies both ways until either side ends.
	PortForward(ctx context.Context, sandboxID string, port uint16, conn io.ReadWriteCloser) error
}

// Observer tells what happens.
type Observer interface {
	// Events yields until ctx ends. The first element is Subscribed: what happens from then on is not missed.
	// A consumer that is too slow gets an error that wraps errs.Gone as the last element, and starts again.
	Events(ctx context.Context) iter.Seq2[Event, error]
	// ContainerStats of one running container; SandboxStats of what the pod shares.
	ContainerStats(ctx context.Context, id string) (ContainerStats, error)
	SandboxStats(ctx context.Context, id string) (SandboxStats, error)
}
