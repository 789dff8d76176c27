// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/knarr/knarr/engine/oci"
	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
	"golang.org/x/sys/unix"
)

// Started is a monitor that gets ready while its caller makes what the container needs: the mounts, the bundle. One of Create
// and Cancel ends it.
type Started struct {
	launch Launch
	hold   *conn
}

// Start is Begin and Create.
func (l Launch) Start(ctx context.Context) (*Client, error) {
	s, err := l.Begin()
	if err != nil {
		return nil, err
	}
	return s.Create(ctx)
}

// Begin starts the monitor and does not wait for it: a program's start is 2 ms that the caller can use. Of the Launch only
// Dir must be there by now.
func (l Launch) Begin() (*Started, error) {
	if err := oci.ValidateID(l.ID); err != nil {
		return nil, err
	}
	for _, p := range []string{l.Dir, l.Bundle, l.Binary} {
		if !filepath.IsAbs(p) {
			return nil, errs.New(errs.Invalid, "launch %s: path %q is not absolute", l.ID, p)
		}
	}
	hold, err := l.fork()
	if err != nil {
		return nil, fmt.Errorf("start monitor of %s: %w", l.ID, err)
	}
	return &Started{launch: l, hold: hold}, nil
}

// Filter gives the monitor the compiled form of the bundle's seccomp policy, which it then need not compile itself.
func (s *Started) Filter(f *oci.Filter) { s.launch.Filter = f }

// Create returns when the container is created: its namespaces, mounts and cgroup are ready and its init waits for
// Client.Start. On error nothing is left behind. A program that cannot be found gives an error of kind errs.NotFound, one
// that may not be executed errs.Denied, with the text of the runtime.
func (s *Started) Create(ctx context.Context) (*Client, error) {
	hold := s.hold
	s.hold = nil
	r, _, err := hold.ask(ctx, request{Op: opCreate, Launch: &s.launch})
	if err != nil {
		hold.Close() // a monitor that is still creating undoes it when it finds nobody to tell
		return nil, err
	}
	return &Client{dir: s.launch.Dir, pid: r.Pid, hold: hold}, nil
}

// Cancel ends a monitor that is not needed; after Create it does nothing.
func (s *Started) Cancel() {
	if s.hold != nil {
		s.hold.Close()
		_ = os.Remove(filepath.Join(s.launch.Dir, logFile))
	}
}

// fork executes the monitor with nothing of ours but one end of a socket.
func (l Launch) fork() (*conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fds[1])
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		unix.Close(fds[0])
		return nil, err
	}
	defer null.Close()
	// What a crash of the monitor says must land somewhere.
	crash, err := os.OpenFile(filepath.Join(l.Dir, logFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		unix.Close(fds[0])
		return nil, err
	}
	defer crash.Close()
	pidfd := -1
	args := append([]string{"knarr-shim"}, l.monitorArgs()...)
	_, err = syscall.ForkExec(l.Binary, args, &syscall.ProcAttr{
		Dir: "/",
		// One processor is plenty for copying a few bytes and saves the caches of the others; see settle for the rest.
		Env:   append([]string{"GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=" + startMemory}, l.env...),
		Files: []uintptr{null.Fd(), null.Fd(), crash.Fd(), uintptr(fds[1])},
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	})
	if err != nil {
		unix.Close(fds[0])
		return nil, &os.PathError{Op: "exec", Path: l.Binary, Err: err}
	}
	if pidfd >= 0 {
		go reapLater(pidfd)
	}
	return newConn(fds[0])
}

func (l Launch) monitorArgs() []string {
	if len(l.args) > 0 {
		return l.args
	}
	return []string{"monitor"}
}

// reapLater waits for a monitor, which is a child of ours, without keeping a thread for it.
func reapLater(pidfd int) {
	if err := unix.SetNonblock(pidfd, true); err != nil {
		unix.Close(pidfd)
		return
	}
	f := os.NewFile(uintptr(pidfd), "pidfd")
	defer f.Close()
	rc, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = rc.Read(func(fd uintptr) bool {
		err := unix.Waitid(unix.P_PIDFD, int(fd), nil, unix.WEXITED, nil)
		return err != unix.EAGAIN
	})
}

// Clean ends and removes what a monitor that was itself killed left of its container: processes, cgroup, runtime state. It is
// no error when there is nothing. There is no exit record then; the caller decides what to say.
func Clean(dir, id string) error {
	r := oci.Runtime{Root: filepath.Join(dir, stateDir)}
	if err := r.Delete(id, true); err != nil && !errors.Is(err, errs.NotFound) {
		return err
	}
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	return atomicfile.Sweep(dir)
}
