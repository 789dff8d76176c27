// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/knarr/knarr/internal/errs"
	"golang.org/x/sys/unix"
)

// attachPatience is how long an attached reader that does not read may hold the container's output up. A pipe's worth of
// output (64 KiB) is buffered before.
const attachPatience = 30 * time.Second

// stdio is the container's standard streams as the monitor holds them.
type stdio struct {
	child  [3]*os.File // the container's ends; closed once it has them
	in     *os.File    // our end of stdin: a pipe, or the terminal; nil without
	out    [2]outlet   // stdout, stderr; with a terminal stdout alone
	master *os.File    // the terminal
	pumps  sync.WaitGroup
	mu     sync.Mutex // guards in's closing
}

// outlet copies one output stream to the log and to all attached readers.
type outlet struct {
	mu    sync.Mutex // guards sinks and ended
	sinks map[*os.File]bool
	ended bool
}

// openStdio makes the pipes. With a terminal the streams come later, when init has made it.
func openStdio(terminal, stdin bool) (*stdio, error) {
	s := new(stdio)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	s.child = [3]*os.File{null, null, null}
	if terminal {
		return s, nil
	}
	if stdin {
		if s.child[0], s.in, err = pipe(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// pipe gives a blocking end for the container and, as os.Pipe has it, a pollable one for us.
func pipe() (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "|0"), os.NewFile(uintptr(fds[1]), "|1"), nil
}

// pollable makes reads and writes of f wait in the poller and obey deadlines; the other end of its pipe is not touched.
func pollable(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	f.Close()
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// pump copies from r until it ends. It is the only reader of the stream.
func (o *outlet) pump(r *os.File, l *lines) {
	buf := make([]byte, 16<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			l.write(buf[:n], time.Now())
			o.spread(buf[:n])
		}
		if err != nil {
			break
		}
	}
	l.end(time.Now())
	r.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	for f := range o.sinks {
		f.Close()
	}
	o.sinks = nil
}

func (o *outlet) spread(p []byte) {
	o.mu.Lock()
	sinks := make([]*os.File, 0, len(o.sinks))
	for f := range o.sinks {
		sinks = append(sinks, f)
	}
	o.mu.Unlock()
	for _, f := range sinks {
		_ = f.SetWriteDeadline(time.Now().Add(attachPatience))
		if _, err := f.Write(p); err != nil {
			o.remove(f)
		}
	}
}

func (o *outlet) add(f *os.File) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		f.Close()
		return
	}
	if o.sinks == nil {
		o.sinks = map[*os.File]bool{}
	}
	o.sinks[f] = true
}

func (o *outlet) remove(f *os.File) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.sinks, f)
	f.Close()
}

// run starts the copying, after the container has taken its ends.
func (s *stdio) run(outputs [2]*os.File, log *logWriter) {
	for i, name := range []string{"stdout", "stderr"} {
		if outputs[i] == nil {
			s.out[i].ended = true
			continue
		}
		s.pumps.Add(1)
		go func() {
			defer s.pumps.Done()
			s.out[i].pump(outputs[i], &lines{log: log, stream: name})
		}()
	}
}

// attach makes the pipes that o asks for, hooks our ends in, and gives the client's. detach undoes it.
func (s *stdio) attach(o AttachOptions) (theirs []*os.File, detach func(), err error) {
	var undo []func()
	detach = func() {
		for _, f := range undo {
			f()
		}
	}
	if o.Stdin {
		if s.in == nil {
			return nil, detach, errs.New(errs.Conflict, "the container was created without an open stdin")
		}
		r, w, err := pipe()
		if err == nil {
			r, err = pollable(r)
		}
		if err != nil {
			return nil, detach, err
		}
		theirs = append(theirs, w)
		undo = append(undo, func() { r.Close() })
		go s.feed(r, o.StdinOnce)
	}
	for i, want := range []bool{o.Stdout, o.Stderr} {
		if !want {
			continue
		}
		r, w, err := pipe()
		if err == nil {
			w, err = pollable(w)
		}
		if err != nil {
			return theirs, detach, err
		}
		theirs = append(theirs, r)
		undo = append(undo, func() { s.out[i].remove(w) })
		s.out[i].add(w)
	}
	return theirs, detach, nil
}

// feed copies one client's typing to the container.
func (s *stdio) feed(r *os.File, once bool) {
	defer r.Close()
	_, err := io.Copy(struct{ io.Writer }{s.in}, struct{ io.Reader }{r})
	if err == nil && once {
		s.closeStdin()
	}
}

// closeStdin gives the container end of file; to a terminal it cannot be given.
func (s *stdio) closeStdin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in != nil && s.master == nil {
		s.in.Close()
	}
}

func resize(master *os.File, cols, rows uint16) error {
	if master == nil {
		return errs.New(errs.Conflict, "there is no terminal to resize")
	}
	rc, err := master.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = rc.Control(func(fd uintptr) {
		set = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	return errors.Join(err, set)
}

// receiveTerminal takes the master that init sends over the console socket.
func receiveTerminal(socket *os.File) (*os.File, error) {
	buf, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(socket.Fd()), buf, oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return nil, errs.New(errs.Invalid, "receive terminal: no descriptor came")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errs.New(errs.Invalid, "receive terminal: no descriptor came")
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}
