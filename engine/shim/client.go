// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Launch says how to start a monitor for one container.
type Launch struct {
	Binary   string // path of knarr-shim
	ID       string // the container's id; a file name: [a-zA-Z0-9][a-zA-Z0-9_.+-]*
	Dir      string // run directory of this container, 0700, made by the caller
	Bundle   string // OCI bundle with config.json; the rootfs in it is mounted already
	Log      Log    // where the container's output is kept
	Terminal bool   // the container's standard streams are one pseudo-terminal; process.terminal must say so too
	Stdin    bool   // keep stdin open for Attach; otherwise it reads end of file
}

// Log is a container's log file in the format of the Kubernetes CRI: "<RFC3339Nano> stdout|stderr P|F <line>". With a
// terminal everything is stdout. The monitor rotates: path is always the newest, path.1 the one before, and so on.
type Log struct {
	Path     string // empty: no log
	MaxBytes int64  // rotate when a file grows past this; 0: never
	MaxFiles int    // files kept in all, the newest included; 0 means 1
}

// Exit says how a process ended. It is also the content of exit.json.
type Exit struct {
	Code      int       `json:"code"`   // the exit status; 128 + Signal when a signal killed it
	Signal    int       `json:"signal"` // 0 when it exited by itself
	OOMKilled bool      `json:"oomKilled"`
	StartedAt time.Time `json:"startedAt"` // zero when it was never started
	ExitedAt  time.Time `json:"exitedAt"`
}

// AttachOptions chooses the streams. With a terminal only Stdin and Stdout exist.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
}

// Streams are live ends of a process's standard streams; those not asked for are nil. Closing Stdin of the container's
// own process closes it for the container only when CloseStdin is called: another attached client may still be typing.
type Streams struct {
	Stdin          io.WriteCloser
	Stdout, Stderr io.ReadCloser // io.EOF when the process and all who share the stream have closed it
}

// Close closes every stream that is there.
func (s *Streams) Close() error {
	var err error
	for _, c := range []io.Closer{s.Stdin, s.Stdout, s.Stderr} {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
	}
	return err
}

// Exec is one more process for a running container. Process.Terminal decides about a pseudo-terminal.
type Exec struct {
	ID      string // unique within the container while it runs
	Process specs.Process
	Stdin   bool // without it stdin reads end of file
}

// ExecProcess is a running Exec. Closing Stdin gives the process end of file.
type ExecProcess struct {
	Pid int
	Streams
	client *Client
	id     string
}

// Client talks to one monitor. Its methods may be called concurrently.
type Client struct {
	dir string
	pid int
}

var errNotYet = errors.New("shim: not implemented yet")

// Start starts the monitor and returns when the container is created: its namespaces, mounts and cgroup are ready and
// its init waits for Client.Start. On error nothing is left behind. A program that cannot be found gives an error of
// kind errs.NotFound, one that may not be executed errs.Denied, with the text of the runtime.
func (l Launch) Start(ctx context.Context) (*Client, error) { return nil, errNotYet }

// Dial connects to the monitor that keeps its socket in dir, after a restart of the daemon. The error is of kind
// errs.NotFound when no monitor runs there; ReadExit then says how the container ended, if it was known.
func Dial(ctx context.Context, dir string) (*Client, error) { return nil, errNotYet }

// ReadExit reads the exit record in dir; false when there is none.
func ReadExit(dir string) (Exit, bool, error) { return Exit{}, false, errNotYet }

// Pid is the container's init as the host sees it; it stays the same after the exit.
func (c *Client) Pid() int { return c.pid }

// Start lets the created container run. The error of an init that could not execute the program comes back.
func (c *Client) Start(ctx context.Context) error { return errNotYet }

// Signal sends sig to the container's init. After the exit: errs.Gone.
func (c *Client) Signal(ctx context.Context, sig syscall.Signal) error { return errNotYet }

// SignalAll sends sig to every process in the container's cgroup; SIGKILL leaves no survivor.
func (c *Client) SignalAll(ctx context.Context, sig syscall.Signal) error { return errNotYet }

// Pause freezes every process of the container; Resume lets them go on.
func (c *Client) Pause(ctx context.Context) error { return errNotYet }

// Resume undoes Pause.
func (c *Client) Resume(ctx context.Context) error { return errNotYet }

// Wait blocks until the container has exited and its record is on disk. It may be called many times, also afterwards.
func (c *Client) Wait(ctx context.Context) (Exit, error) { return Exit{}, errNotYet }

// Attach gives live streams of the container's init from now on; several may be attached at once. A reader that does
// not read holds the container up for a bounded time and is then detached (its streams end).
func (c *Client) Attach(ctx context.Context, o AttachOptions) (*Streams, error) {
	return nil, errNotYet
}

// CloseStdin gives the container's init end of file on its standard input.
func (c *Client) CloseStdin(ctx context.Context) error { return errNotYet }

// Resize sets the size of the terminal of the container (execID empty) or of one of its execs.
func (c *Client) Resize(ctx context.Context, execID string, cols, rows uint16) error {
	return errNotYet
}

// Exec starts one more process in the container. Errors are as for Launch.Start.
func (c *Client) Exec(ctx context.Context, e Exec) (*ExecProcess, error) { return nil, errNotYet }

// Wait blocks until the process has exited and its output has been handed over.
func (p *ExecProcess) Wait(ctx context.Context) (Exit, error) { return Exit{}, errNotYet }

// Resize sets the size of the process's terminal.
func (p *ExecProcess) Resize(ctx context.Context, cols, rows uint16) error { return errNotYet }

// Signal sends sig to the process.
func (p *ExecProcess) Signal(ctx context.Context, sig syscall.Signal) error { return errNotYet }

// ReopenLog makes the monitor open the log's path anew, for a caller that moved the file away.
func (c *Client) ReopenLog(ctx context.Context) error { return errNotYet }

// Close lets go of the connection; the monitor and the container go on.
func (c *Client) Close() error { return nil }

// Shutdown ends the monitor after the container's exit (errs.Conflict before): the runtime's state and the cgroup are
// removed, the exit record stays. It closes the client. A monitor that is gone already is no error.
func (c *Client) Shutdown(ctx context.Context) error { return errNotYet }
