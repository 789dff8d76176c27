// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/knarr/knarr/engine/oci"
	"github.com/knarr/knarr/internal/errs"
	"golang.org/x/sys/unix"
)

// listen makes the control socket in dir, in place of one that a killed monitor left.
func listen(dir string) (*conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(d)
	_ = unix.Unlinkat(d, socketFile, 0)
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(d) + "/" + socketFile})
	if err == nil {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen on %s/%s: %w", dir, socketFile, err)
	}
	return newConn(fd)
}

func (m *monitor) serve(l *conn) {
	for {
		var fd int
		var got error
		err := l.rc.Read(func(lfd uintptr) bool {
			fd, _, got = unix.Accept4(int(lfd), unix.SOCK_CLOEXEC)
			return got != unix.EAGAIN
		})
		if err != nil {
			return
		}
		if got != nil {
			if got == unix.EMFILE || got == unix.ENFILE {
				warn("accept: " + got.Error())
				return
			}
			continue
		}
		c, err := newConn(fd)
		if err != nil {
			continue
		}
		m.mu.Lock()
		m.conns++
		m.mu.Unlock()
		go func() {
			m.answer(c)
			m.closed(c)
		}()
	}
}

func (m *monitor) closed(c *conn) {
	c.Close()
	m.mu.Lock()
	m.conns--
	m.mu.Unlock()
	m.leaveIfAlone()
}

// holdUntilClosed keeps the monitor while a client is there.
func (m *monitor) holdUntilClosed(c *conn) {
	<-gone(c)
	m.closed(c)
}

// gone is closed when the client closes the connection, on which it says nothing any more.
func gone(c *conn) <-chan struct{} {
	ch := make(chan struct{})
	go func() {
		defer close(ch)
		var b [1]byte
		for {
			if _, err := c.f.Read(b[:]); err != nil {
				return
			}
		}
	}()
	return ch
}

// answer serves one connection: one request, and whatever it keeps open.
func (m *monitor) answer(c *conn) {
	if !c.peerAllowed() {
		return
	}
	var q request
	fds, err := c.recv(&q)
	closeAll(fds)
	if err != nil {
		return
	}
	switch q.Op {
	case opHold:
		if c.send(response{Pid: m.pid}) == nil {
			<-gone(c)
		}
		return
	case opWait:
		m.answerWait(c, q)
		return
	case opAttach:
		m.answerAttach(c, q)
		return
	case opExec:
		m.answerExec(c, q)
		return
	case opExecs:
		_ = c.send(response{Execs: m.knownExecs()})
		return
	case opExecWait:
		m.answerExecWait(c, q)
		return
	}
	if err := m.do(q); err != nil {
		_ = c.send(failure(err))
		return
	}
	_ = c.send(response{})
	if q.Op == opShutdown {
		m.mu.Lock()
		m.leaveLocked()
		m.mu.Unlock()
	}
}

// do serves the requests that are done when they are answered.
func (m *monitor) do(q request) error {
	switch q.Op {
	case opStart:
		return m.start()
	case opSignal:
		return m.signal(q)
	case opPause:
		return m.runtime.Pause(m.launch.ID)
	case opResume:
		return m.runtime.Resume(m.launch.ID)
	case opCloseStdin:
		m.stdio.closeStdin()
		return nil
	case opResize:
		master := m.stdio.master
		if q.ExecID != "" {
			x, err := m.findExec(q.ExecID)
			if err != nil {
				return err
			}
			master = x.master
		}
		return resize(master, q.Cols, q.Rows)
	case opReopenLog:
		return m.log.reopen()
	case opShutdown:
		select {
		case <-m.exited:
			return m.finish() // before the answer, so that the caller may reuse what the container held
		default:
			return errs.New(errs.Conflict, "container %s has not exited", m.launch.ID)
		}
	}
	return errs.New(errs.Unsupported, "unknown request %q", q.Op)
}

func (m *monitor) answerWait(c *conn, q request) {
	ctx, cancel := context.WithCancel(context.Background()) //house:allow context.Background: the root of the monitor, a program of its own
	defer cancel()
	closed := gone(c)
	go func() {
		select {
		case <-closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	if q.Watch {
		if q.After < 0 {
			q.After = m.oom.count()
		}
		m.tell(c, q.After, closed)
	}
	if e := m.wait(ctx); e != nil {
		_ = c.send(response{Exit: e})
	}
}

func (m *monitor) answerAttach(c *conn, q request) {
	if q.Attach == nil {
		_ = c.send(failure(errs.New(errs.Invalid, "attach: no streams")))
		return
	}
	theirs, detach, err := m.stdio.attach(*q.Attach)
	defer detach()
	if err == nil {
		err = c.send(response{}, descriptors(theirs)...)
	} else {
		_ = c.send(failure(err))
	}
	for _, f := range theirs {
		f.Close()
	}
	if err == nil {
		<-gone(c)
	}
}

// descriptors are the files' numbers; File.Fd would also make them block.
func descriptors(files []*os.File) []int {
	var fds []int
	for _, f := range files {
		if rc, err := f.SyscallConn(); err == nil {
			_ = rc.Control(func(fd uintptr) { fds = append(fds, int(fd)) })
		}
	}
	return fds
}

// execution is a further process of the container.
type execution struct {
	pid    int
	master *os.File // its terminal, or nil
	about  KnownExec
	ended  chan struct{} // closed when exit is set
	exit   Exit
}

// maxUnclaimed bounds the ends of execs that are kept for a client that may come back.
const maxUnclaimed = 64

// knownExecs lists what runs, and what ended without anybody to be told.
func (m *monitor) knownExecs() []KnownExec {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []KnownExec
	for _, x := range m.execs {
		if x.about.Pid != 0 {
			out = append(out, x.about)
		}
	}
	return out
}

// answerExecWait tells the end of an exec whose first client has gone, and forgets it.
func (m *monitor) answerExecWait(c *conn, q request) {
	x, err := m.findExec(q.ExecID)
	if err != nil {
		_ = c.send(failure(err))
		return
	}
	select {
	case <-x.ended:
		if c.send(response{Exit: &x.exit}) == nil {
			m.forgetExec(q.ExecID)
		}
	case <-gone(c):
	}
}

func (m *monitor) forgetExec(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.execs, id)
}

// keepUnclaimed waits out an exec whose client has gone, and keeps its end, unless there are many such.
func (m *monitor) keepUnclaimed(id string, x *execution) {
	<-x.ended
	m.mu.Lock()
	defer m.mu.Unlock()
	over := 0
	for _, o := range m.execs {
		select {
		case <-o.ended:
			over++
		default:
		}
	}
	if over > maxUnclaimed {
		delete(m.execs, id)
	}
}

func goneError(id string) error { return errs.New(errs.Gone, "exec %s is not running", id) }

func (m *monitor) findExec(id string) (*execution, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.execs[id]
	if x == nil {
		return nil, goneError(id)
	}
	return x, nil
}

func (m *monitor) answerExec(c *conn, q request) {
	if q.Exec == nil || q.Exec.ID == "" {
		_ = c.send(failure(errs.New(errs.Invalid, "exec: no id or no process")))
		return
	}
	id := q.Exec.ID
	x := &execution{ended: make(chan struct{})}
	m.mu.Lock()
	taken := m.execs[id] != nil
	if !taken {
		m.execs[id] = x
	}
	m.mu.Unlock()
	if taken {
		_ = c.send(failure(errs.New(errs.Exists, "exec %s runs already", id)))
		return
	}
	keep := false
	defer func() {
		if !keep {
			m.forgetExec(id)
		}
		if x.master != nil {
			x.master.Close()
		}
	}()
	x.exit.StartedAt = time.Now().UTC()
	theirs, err := m.exec(x, q.Exec)
	if err != nil {
		_ = c.send(failure(err))
		return
	}
	m.mu.Lock()
	p := q.Exec.Process
	x.about = KnownExec{ID: id, Pid: x.pid, Args: p.Args, Cwd: p.Cwd, Terminal: p.Terminal}
	m.mu.Unlock()
	err = c.send(response{Pid: x.pid}, descriptors(theirs)...)
	for _, f := range theirs {
		if f != x.master {
			f.Close()
		}
	}
	if err != nil {
		return
	}
	select {
	case <-x.ended:
		_ = c.send(response{Exit: &x.exit})
	case <-gone(c): // the process goes on without its client, and so does its terminal
		keep = true
		m.keepUnclaimed(id, x)
	}
}

// exec starts the process and gives the client's ends of its streams.
func (m *monitor) exec(x *execution, e *Exec) (theirs []*os.File, err error) {
	o := oci.ExecOptions{Process: e.Process}
	var console *os.File
	var ours []*os.File
	defer func() {
		for _, f := range ours {
			f.Close()
		}
		if err != nil {
			for _, f := range theirs {
				f.Close()
			}
		}
	}()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	ours = append(ours, null)
	o.Stdio = [3]*os.File{null, null, null}
	if e.Process.Terminal {
		if console, o.Console, err = socketpair(); err != nil {
			return nil, err
		}
		ours = append(ours, console, o.Console)
	} else if !e.Null {
		for i := range o.Stdio {
			if i == 0 && !e.Stdin {
				continue
			}
			r, w, err := pipe()
			if err != nil {
				return theirs, err
			}
			if i == 0 {
				r, w = w, r
			}
			o.Stdio[i] = w
			ours, theirs = append(ours, w), append(theirs, r)
		}
	}
	m.children.Lock()
	defer m.children.Unlock()
	if x.pid, err = m.runtime.Exec(m.launch.ID, o); err != nil {
		return theirs, err
	}
	m.waiting[x.pid] = func(ws unix.WaitStatus) {
		started := x.exit.StartedAt
		x.exit = exitOf(ws)
		x.exit.StartedAt = started
		close(x.ended)
	}
	if console != nil {
		if x.master, err = receiveTerminal(console); err != nil {
			return theirs, err
		}
		theirs = append(theirs, x.master)
	}
	return theirs, nil
}
