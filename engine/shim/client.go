// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
	"golang.org/x/sys/unix"
)

const (
	socketFile = "shim.sock"
	pidFile    = "shim.pid"
	exitFile   = "exit.json"
	logFile    = "shim.log"
	stateDir   = "state"
)

// Client talks to one monitor. Its methods may be called concurrently. As long as it is open the monitor stays.
type Client struct {
	dir  string
	pid  int
	hold *conn
}

// Dial connects to the monitor that keeps its socket in dir, after a restart of the daemon. The error is of kind
// errs.NotFound when no monitor runs there; ReadExit then says how the container ended, if it was known.
func Dial(ctx context.Context, dir string) (*Client, error) {
	c := &Client{dir: dir}
	hold, err := c.dial()
	if err != nil {
		return nil, err
	}
	r, _, err := hold.ask(ctx, request{Op: opHold})
	if err != nil {
		hold.Close()
		if errors.Is(err, errs.Gone) {
			return nil, errs.New(errs.NotFound, "no monitor in %s: it has just ended", dir)
		}
		return nil, err
	}
	c.pid, c.hold = r.Pid, hold
	return c, nil
}

func (c *Client) dial() (*conn, error) {
	dir, err := unix.Open(c.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.New(errs.NotFound, "no monitor in %s", c.dir)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: c.dir, Err: err}
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("connect to monitor: %w", err)
	}
	// A socket's address holds 107 bytes; by the directory's descriptor any path fits.
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/" + socketFile})
	if err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
			return nil, errs.New(errs.NotFound, "no monitor in %s", c.dir)
		}
		return nil, fmt.Errorf("connect to monitor in %s: %w", c.dir, err)
	}
	return newConn(fd)
}

// ask makes a connection for one request with one answer.
func (c *Client) ask(ctx context.Context, q request) (response, error) {
	cn, err := c.dial()
	if errors.Is(err, errs.NotFound) {
		return response{}, errs.New(errs.Gone, "%s: the monitor has ended", q.Op)
	}
	if err != nil {
		return response{}, err
	}
	defer cn.Close()
	r, fds, err := cn.ask(ctx, q)
	closeAll(fds)
	return r, err
}

func (c *Client) do(ctx context.Context, q request) error {
	_, err := c.ask(ctx, q)
	return err
}

// ReadExit reads the exit record in dir; false when there is none.
func ReadExit(dir string) (Exit, bool, error) {
	var e exitRecord
	err := atomicfile.ReadJSON(filepath.Join(dir, exitFile), &e)
	if errors.Is(err, fs.ErrNotExist) {
		return Exit{}, false, nil
	}
	if err != nil {
		return Exit{}, false, err
	}
	return e.Exit, true, nil
}

// exitRecord is exit.json.
type exitRecord struct {
	Version int `json:"version"`
	Exit
}

// Pid is the container's init as the host sees it; it stays the same after the exit.
func (c *Client) Pid() int { return c.pid }

// Start lets the created container run. The error of an init that could not execute the program comes back.
func (c *Client) Start(ctx context.Context) error { return c.do(ctx, request{Op: opStart}) }

// Signal sends sig to the container's init. After the exit: errs.Gone.
func (c *Client) Signal(ctx context.Context, sig syscall.Signal) error {
	return c.do(ctx, request{Op: opSignal, Signal: int(sig)})
}

// SignalAll sends sig to every process in the container's cgroup; SIGKILL leaves no survivor.
func (c *Client) SignalAll(ctx context.Context, sig syscall.Signal) error {
	return c.do(ctx, request{Op: opSignal, Signal: int(sig), All: true})
}

// Pause freezes every process of the container.
func (c *Client) Pause(ctx context.Context) error { return c.do(ctx, request{Op: opPause}) }

// Resume undoes Pause.
func (c *Client) Resume(ctx context.Context) error { return c.do(ctx, request{Op: opResume}) }

// Wait blocks until the container has exited and its record is on disk. It may be called many times, also afterwards.
func (c *Client) Wait(ctx context.Context) (Exit, error) {
	r, err := c.ask(ctx, request{Op: opWait})
	if err == nil {
		return *r.Exit, nil
	}
	if e, ok, readErr := ReadExit(c.dir); readErr == nil && ok && ctx.Err() == nil {
		return e, nil
	}
	return Exit{}, err
}

// Attach gives live streams of the container's init from now on; several may be attached at once. A reader that does
// not read holds the container up for a bounded time (attachPatience) and is then detached: its streams end.
func (c *Client) Attach(ctx context.Context, o AttachOptions) (*Streams, error) {
	cn, err := c.dial()
	if err != nil {
		return nil, err
	}
	_, fds, err := cn.ask(ctx, request{Op: opAttach, Attach: &o})
	if err != nil {
		cn.Close()
		return nil, err
	}
	s := &Streams{conn: cn}
	s.take(fds, o)
	return s, nil
}

// take gives the descriptors, which come in the order stdin, stdout, stderr, to the streams that were asked for.
func (s *Streams) take(fds []int, o AttachOptions) {
	next := func(name string) *os.File {
		if len(fds) == 0 {
			return nil
		}
		_ = unix.SetNonblock(fds[0], true)
		f := os.NewFile(uintptr(fds[0]), name)
		fds = fds[1:]
		return f
	}
	if o.Stdin {
		if f := next("stdin"); f != nil {
			s.Stdin = f
		}
	}
	if o.Stdout {
		if f := next("stdout"); f != nil {
			s.Stdout = f
		}
	}
	if o.Stderr {
		if f := next("stderr"); f != nil {
			s.Stderr = f
		}
	}
	closeAll(fds)
}

// CloseStdin gives the container's init end of file on its standard input.
func (c *Client) CloseStdin(ctx context.Context) error { return c.do(ctx, request{Op: opCloseStdin}) }

// Resize sets the size of the terminal of the container (execID empty) or of one of its execs.
func (c *Client) Resize(ctx context.Context, execID string, cols, rows uint16) error {
	return c.do(ctx, request{Op: opResize, ExecID: execID, Cols: cols, Rows: rows})
}

// ReopenLog makes the monitor open the log's path anew, for a caller that moved the file away.
func (c *Client) ReopenLog(ctx context.Context) error { return c.do(ctx, request{Op: opReopenLog}) }

// Close lets go of the connection; the monitor and the container go on.
func (c *Client) Close() error { return c.hold.Close() }

// Shutdown ends the monitor after the container's exit (errs.Conflict before): the runtime's state and the cgroup are
// removed, the exit record stays. It closes the client. A monitor that is gone already is no error.
func (c *Client) Shutdown(ctx context.Context) error {
	err := c.do(ctx, request{Op: opShutdown})
	if errors.Is(err, errs.Gone) {
		err = nil
	}
	if err == nil {
		c.hold.Close()
	}
	return err
}

// ExecProcess is a running Exec. Closing Stdin gives the process end of file. With a terminal Stdin and Stdout are both
// ends of it and there is no Stderr.
type ExecProcess struct {
	Pid int
	Streams
	client *Client
	id     string
	done   chan struct{} // closed when exit and err are set
	exit   Exit
	err    error
}

// Exec starts one more process in the container. Errors are as for Launch.Start. The process's pipes are the caller's own: what the
// caller does not read, it holds up, and its end closes them.
func (c *Client) Exec(ctx context.Context, e Exec) (*ExecProcess, error) {
	cn, err := c.dial()
	if err != nil {
		return nil, err
	}
	r, fds, err := cn.ask(ctx, request{Op: opExec, Exec: &e})
	if err != nil {
		cn.Close()
		return nil, err
	}
	p := &ExecProcess{Pid: r.Pid, client: c, id: e.ID, done: make(chan struct{})}
	switch {
	case e.Process.Terminal:
		p.terminal(fds)
	case e.Null:
		closeAll(fds)
	default:
		p.take(fds, AttachOptions{Stdin: e.Stdin, Stdout: true, Stderr: true})
	}
	go p.await(cn)
	return p, nil
}

// await reads the end of the process from the connection that it was asked for on.
func (p *ExecProcess) await(cn *conn) {
	defer close(p.done)
	defer cn.Close()
	var r response
	if _, err := cn.recv(&r); err != nil {
		p.err = errs.New(errs.Gone, "wait for exec %s: the monitor has ended: %w", p.id, err)
	} else if p.err = r.err(); p.err == nil {
		p.exit = *r.Exit
	}
}

// Execs lists what Exec has started and whose end nobody has been told.
func (c *Client) Execs(ctx context.Context) ([]KnownExec, error) {
	r, err := c.ask(ctx, request{Op: opExecs})
	return r.Execs, err
}

// Rejoin answers a process of Execs; its streams went with the client that started it.
func (c *Client) Rejoin(e KnownExec) (*ExecProcess, error) {
	cn, err := c.dial()
	if err != nil {
		return nil, err
	}
	if err := cn.send(request{Op: opExecWait, ExecID: e.ID}); err != nil {
		cn.Close()
		return nil, err
	}
	p := &ExecProcess{Pid: e.Pid, client: c, id: e.ID, done: make(chan struct{})}
	go p.await(cn)
	return p, nil
}

func (p *ExecProcess) terminal(fds []int) {
	if len(fds) == 0 {
		return
	}
	_ = unix.SetNonblock(fds[0], true)
	master := os.NewFile(uintptr(fds[0]), "terminal")
	p.Stdin, p.Stdout = nopClose{master}, terminalReader{master}
	closeAll(fds[1:])
}

// nopClose keeps the end of typing from being the end of the terminal.
type nopClose struct{ io.Writer }

func (nopClose) Close() error { return nil }

// terminalReader turns the EIO of a terminal whose other side is gone into the end of file that it means.
type terminalReader struct{ f *os.File }

func (t terminalReader) Read(p []byte) (int, error) {
	n, err := t.f.Read(p)
	if errors.Is(err, unix.EIO) {
		err = io.EOF
	}
	return n, err
}

func (t terminalReader) Close() error { return t.f.Close() }

// Wait blocks until the process has exited. What it wrote is in the streams until they end.
func (p *ExecProcess) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-p.done:
		return p.exit, p.err
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

// Resize sets the size of the process's terminal.
func (p *ExecProcess) Resize(ctx context.Context, cols, rows uint16) error {
	return p.client.Resize(ctx, p.id, cols, rows)
}

// Signal sends sig to the process.
func (p *ExecProcess) Signal(ctx context.Context, sig syscall.Signal) error {
	return p.client.do(ctx, request{Op: opSignal, ExecID: p.id, Signal: int(sig)})
}
