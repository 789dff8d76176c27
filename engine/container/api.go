// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"io"
	"io/fs"
	"iter"
	"net"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/engine/image"
)

// Create validates s, resolves its image and makes a container that is ready to start. A name that is taken is
// errs.Conflict, a missing image or sandbox errs.NotFound, a bad field errs.Invalid.
func (e *Engine) Create(ctx context.Context, s Spec) (Container, error) { return Container{}, errSoon }

// Start starts a created or exited container; a running one is left alone (no error). When the program cannot be executed
// the error is a StartError, and the container is exited with its code.
func (e *Engine) Start(ctx context.Context, ref string) error { return errSoon }

// StartError says that the runtime could not execute the container's program.
type StartError struct {
	Code int // 127: not found; 126: found, but not executable; 128: anything else
	Err  error
}

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// Stop sends the stop signal, waits for grace (nil: the container's own; negative: for ever), then kills. It returns when
// the container has exited. A container that does not run is no error. A restart policy does not start it again.
func (e *Engine) Stop(ctx context.Context, ref string, grace *time.Duration) error { return errSoon }

// Kill sends a signal ("KILL", "SIGTERM", "9"; "" is KILL). A container that does not run is errs.Conflict.
func (e *Engine) Kill(ctx context.Context, ref, signal string) error { return errSoon }

// Restart is Stop and Start.
func (e *Engine) Restart(ctx context.Context, ref string, grace *time.Duration) error { return errSoon }

// Pause freezes every process of a running container.
func (e *Engine) Pause(ctx context.Context, ref string) error { return errSoon }

// Unpause undoes Pause.
func (e *Engine) Unpause(ctx context.Context, ref string) error { return errSoon }

// RemoveOptions of Remove.
type RemoveOptions struct {
	Force   bool // kill it first; without, a running container is errs.Conflict
	Volumes bool // its anonymous volumes too
}

// Remove removes a container with its root file system, log and folder.
func (e *Engine) Remove(ctx context.Context, ref string, o RemoveOptions) error { return errSoon }

// Rename gives another name.
func (e *Engine) Rename(ctx context.Context, ref, name string) error { return errSoon }

// UpdateOptions: what is nil stays.
type UpdateOptions struct {
	Resources *Resources // zero fields stay
	Restart   *RestartPolicy
}

// Update changes limits, at once when it runs, and the restart policy.
func (e *Engine) Update(ctx context.Context, ref string, o UpdateOptions) error { return errSoon }

// Get finds one container.
func (e *Engine) Get(ref string) (Container, error) { return Container{}, errSoon }

// List returns all containers in any state, newest first.
func (e *Engine) List() []Container { return nil }

// A WaitCondition says what Wait waits for.
type WaitCondition string

// The conditions; the words are Docker's.
const (
	NotRunning WaitCondition = "not-running" // the default: at once when it does not run
	NextExit   WaitCondition = "next-exit"
	Removed    WaitCondition = "removed"
)

// Exit is how a container or an exec ended.
type Exit struct {
	Code                int // 128 + Signal when a signal ended it
	Signal              int
	OOMKilled           bool
	StartedAt, ExitedAt time.Time
	Error               string // why it could not be started, or why the exit is not known
}

// Wait blocks until the condition holds. The container is looked up, and counts as watched, before Wait first blocks.
func (e *Engine) Wait(ctx context.Context, ref string, c WaitCondition) (Exit, error) {
	return Exit{}, errSoon
}

// Waiter is Wait in two steps: the watch is set up when Waiter returns, so that nothing that happens later is missed.
func (e *Engine) Waiter(ref string, c WaitCondition) (wait func(context.Context) (Exit, error), err error) {
	return nil, errSoon
}

// Logs yields the lines of the log. With Follow it ends when the container has exited and all is read, or with ctx.
func (e *Engine) Logs(ctx context.Context, ref string, o LogOptions) iter.Seq2[LogLine, error] {
	return func(yield func(LogLine, error) bool) { yield(LogLine{}, errSoon) }
}

// Attach connects s with the container's own process until it exits or ctx ends; with Spec.StdinOnce the end of s.Stdin
// closes its input. A container that does not run yet is attached when it starts: o.Ready is called as soon as
// nothing of its output can be missed. With o.Logs what was written before comes first.
func (e *Engine) Attach(ctx context.Context, ref string, s Streams, o AttachOptions) error {
	return errSoon
}

// AttachOptions of Attach.
type AttachOptions struct {
	Logs  bool   // replay the log first
	Ready func() // called once when attached
}

// Resize sets the size of the container's terminal.
func (e *Engine) Resize(ctx context.Context, ref string, s Size) error { return errSoon }

// ExecCreate prepares a further process in a running container and answers its ID.
func (e *Engine) ExecCreate(ref string, s ExecSpec) (string, error) { return "", errSoon }

// ExecStart runs it, connected with s, until it ends; with detach it returns when the process runs. Errors are Start's.
// s.Resize is followed; ExecResize works too.
func (e *Engine) ExecStart(ctx context.Context, id string, s Streams, detach bool) error {
	return errSoon
}

// ExecState is a view of an exec. It is kept for a while after its end, and goes with its container.
type ExecState struct {
	ID, Container string
	Spec          ExecSpec
	Running       bool
	Started       bool
	Pid           int
	ExitCode      int // once it has started and no longer runs
}

// ExecInspect answers an exec's state.
func (e *Engine) ExecInspect(id string) (ExecState, error) { return ExecState{}, errSoon }

// ExecResize sets the size of an exec's terminal.
func (e *Engine) ExecResize(ctx context.Context, id string, s Size) error { return errSoon }

// Exec is ExecCreate and ExecStart in one, for callers that need no ID. When ctx ends first the process is killed.
func (e *Engine) Exec(ctx context.Context, ref string, s ExecSpec, streams Streams) (Exit, error) {
	return Exit{}, errSoon
}

// Top lists the container's processes. args are ps options: "", "-ef", "aux", "-o pid,comm,…".
func (e *Engine) Top(ctx context.Context, ref string, args string) (titles []string, rows [][]string, err error) {
	return nil, nil, errSoon
}

// Stats are a running container's or sandbox's numbers at one moment. Counters count from its start.
type Stats struct {
	Time                                           time.Time
	CPU                                            CPUStats
	MemoryUsage, MemoryMax, MemoryLimit            uint64 // bytes; limit 0: none
	MemoryWorkingSet, MemoryRSS, MemoryCache       uint64 // working set: usage without inactive file pages
	MemoryInactiveFile, PageFaults, MajorFaults    uint64
	OOMKills                                       uint64
	Pids, PidsLimit                                uint64
	BlkioRead, BlkioWrite, BlkioReads, BlkioWrites uint64                  // bytes, operations
	Networks                                       map[string]NetworkStats // by interface in the container
}

// CPUStats are times in nanoseconds.
type CPUStats struct {
	Total, User, Kernel uint64
	PerCPU              []uint64
	Periods, Throttled  uint64
	ThrottledTime       uint64
	SystemTotal         uint64 // the machine's busy and idle time of all CPUs
	OnlineCPUs          int
}

// NetworkStats are an interface's counters, as the container sees its directions.
type NetworkStats struct{ RxBytes, RxPackets, RxErrors, RxDropped, TxBytes, TxPackets, TxErrors, TxDropped uint64 }

// Stats reads a container's numbers. One that does not run has zero ones.
func (e *Engine) Stats(ctx context.Context, ref string) (Stats, error) { return Stats{}, errSoon }

// Size answers the bytes of the container's read-write layer, and of its whole root file system.
func (e *Engine) Size(ref string) (rw, root int64, err error) { return 0, 0, errSoon }

// RWUsage answers the bytes and inodes of the container's read-write layer.
func (e *Engine) RWUsage(ref string) (bytes, inodes int64, err error) { return 0, 0, errSoon }

// Diff lists what the container changed against its image.
func (e *Engine) Diff(ref string) ([]image.Change, error) { return nil, errSoon }

// CommitOptions of Commit.
type CommitOptions struct {
	Name            string // "" for none
	Author, Message string
	Config          *image.ContainerConfig // nil: the container's merged one
	NoPause         bool
}

// Commit makes an image of the container.
func (e *Engine) Commit(ctx context.Context, ref string, o CommitOptions) (image.Image, error) {
	return image.Image{}, errSoon
}

// PathStat describes a path in a container.
type PathStat struct {
	Name       string
	Size       int64
	Mode       fs.FileMode
	Mtime      time.Time
	LinkTarget string
}

// StatPath stats a path inside the container's root, where symbolic links cannot lead out of.
func (e *Engine) StatPath(ctx context.Context, ref, path string) (PathStat, error) {
	return PathStat{}, errSoon
}

// CopyFrom writes a tar of path, whose one top entry is path's last element.
func (e *Engine) CopyFrom(ctx context.Context, ref, path string, w io.Writer) error { return errSoon }

// CopyToOptions of CopyTo.
type CopyToOptions struct {
	NoOverwriteDirNonDir bool // a folder does not replace a file, nor a file a folder
	CopyUIDGID           bool // keep the tar's owners instead of root
}

// CopyTo unpacks a tar, plain, gzip or zstd, into the existing folder at path.
func (e *Engine) CopyTo(ctx context.Context, ref, path string, r io.Reader, o CopyToOptions) error {
	return errSoon
}

// Export writes a tar of the container's whole root file system, without what is mounted into it.
func (e *Engine) Export(ctx context.Context, ref string, w io.Writer) error { return errSoon }

// Prune removes the stopped containers that keep answers false for (nil: all), and answers their IDs and bytes freed.
func (e *Engine) Prune(ctx context.Context, keep func(Container) bool) ([]string, int64, error) {
	return nil, 0, errSoon
}

// ImageUsers names the containers that use an image; image.Store's Remove and Prune ask for it.
func (e *Engine) ImageUsers(id digest.Digest) []string { return nil }

// Connect puts a container on a further network, at its next start if it does not run.
func (e *Engine) Connect(ctx context.Context, ref, network string, n NetworkSpec) error {
	return errSoon
}

// Disconnect takes a container off a network.
func (e *Engine) Disconnect(ctx context.Context, ref, network string) error { return errSoon }

// Events yields what happened since then (zero: from now on) and goes on until ctx ends. A subscriber that falls more than
// the ring's size behind gets an error of kind errs.Gone, which ends the sequence.
func (e *Engine) Events(ctx context.Context, since time.Time) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) { yield(Event{}, errSoon) }
}

// Publish adds an event of another part of the engine (image, network, volume); Time is filled in when zero.
func (e *Engine) Publish(ev Event) {}

// CreateSandbox makes a sandbox. One of that ID that is ready is returned as it is; one that lost its namespaces (a reboot)
// is made anew, with another address if need be.
func (e *Engine) CreateSandbox(ctx context.Context, s SandboxSpec) (Sandbox, error) {
	return Sandbox{}, errSoon
}

// RemoveSandbox releases a sandbox's address, ports, namespaces and cgroup. Containers that still run in it are killed;
// they stay listed, exited, until they are removed themselves. Missing is no error.
func (e *Engine) RemoveSandbox(ctx context.Context, id string) error { return errSoon }

// Sandbox finds one sandbox by its ID.
func (e *Engine) Sandbox(id string) (Sandbox, error) { return Sandbox{}, errSoon }

// Sandboxes lists all, oldest first.
func (e *Engine) Sandboxes() []Sandbox { return nil }

// DialSandbox connects to a TCP port on localhost as the sandbox's network namespace sees it.
func (e *Engine) DialSandbox(ctx context.Context, id string, port uint16) (net.Conn, error) {
	return nil, errSoon
}

// SandboxStats are the numbers of all containers of a sandbox, and of its network.
func (e *Engine) SandboxStats(ctx context.Context, id string) (Stats, error) { return Stats{}, errSoon }
