// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/knarr/knarr/engine/cgroup"
	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ExecOptions are a further process for a running container.
type ExecOptions struct {
	CreateOptions
	Process specs.Process
}

// Exec starts one more process in a running container: in its cgroup and its namespaces, under its seccomp filter. It returns when the program runs;
// the pid is a child of the caller.
func (r Runtime) Exec(id string, e ExecOptions) (pid int, err error) {
	s, err := r.load(id)
	if err != nil {
		return 0, err
	}
	p := e.Process
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	if err := validateProcess(&p); err != nil {
		return 0, err
	}
	if status := r.status(s); status == StatusPaused || status == specs.StateStopped {
		return 0, errs.New(errs.Conflict, "cannot exec in a %s container", status)
	}
	if p.Terminal && e.Console == nil {
		return 0, errs.New(errs.Invalid, "process.terminal is set, but nobody takes the terminal: give a console socket")
	}
	c := initConfig{Process: &p, Seccomp: s.Seccomp, JoinMount: true, Chroot: s.Chroot, Console: e.Console != nil && p.Terminal, Preserve: e.Preserve}
	if c.Standing, err = standingOf(&p, nil); err != nil {
		return 0, err
	}
	have, err := availableCaps(slices.Contains(s.Namespaces, string(specs.UserNamespace)))
	if err != nil {
		return 0, err
	}
	var warnings []string
	c.Caps, warnings = resolveCaps(p.Capabilities, have)
	r.warnAll(warnings)
	ours, theirs, err := socketpair()
	if err != nil {
		return 0, err
	}
	defer ours.Close()
	pid, err = r.enter(s, e, theirs)
	theirs.Close()
	if err != nil {
		return 0, err
	}
	if slices.Contains(s.Namespaces, string(specs.UserNamespace)) {
		if warnings, err = limits(&p, pid); err == nil {
			c.LimitsSet = true
			r.warnAll(warnings)
		}
	}
	if err == nil {
		err = r.converseExec(newWire(ours), c)
	}
	if err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
		return 0, err
	}
	if e.PidFile != "" {
		err = atomicfile.WriteVolatile(e.PidFile, []byte(strconv.Itoa(pid)), 0o644)
	}
	return pid, err
}

// enter forks into the container: everything but the mount namespace is joined by the thread that forks.
func (r Runtime) enter(s *state, e ExecOptions, wire *os.File) (int, error) {
	fd, err := s.pidfd()
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	b := birth{userFD: -1, mountFD: -1}
	mount, err := openNamespace(fmt.Sprintf("/proc/%d/ns/mnt", s.Pid), unix.CLONE_NEWNS)
	if err != nil {
		return 0, err
	}
	defer unix.Close(mount)
	for _, n := range s.Namespaces {
		flag := cloneFlags[specs.LinuxNamespaceType(n)]
		switch specs.LinuxNamespaceType(n) {
		case specs.UserNamespace:
			b.userFD = fd
		case specs.MountNamespace:
			// init joins it
		default:
			b.join = append(b.join, membership{fd, flag})
		}
	}
	if !s.alive() {
		return 0, errs.New(errs.Gone, "container %q is not running", s.ID) // the path above may have been another process's
	}
	if s.Cgroup != "" {
		if b.group, err = s.group(); err != nil {
			return 0, err
		}
	}
	std := [3]*os.File{os.Stdin, os.Stdout, os.Stderr}
	for i, f := range e.Stdio {
		if f != nil {
			std[i] = f
		}
	}
	b.files = append(b.files, std[:]...)
	for i := range e.Preserve {
		b.files = append(b.files, os.NewFile(uintptr(3+i), "preserved"))
	}
	dup, err := unix.FcntlInt(uintptr(mount), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return 0, err
	}
	ns := os.NewFile(uintptr(dup), "mnt")
	defer ns.Close()
	b.files = append(b.files, wire, ns)
	if e.Console != nil {
		b.files = append(b.files, e.Console)
	}
	if s.Chroot {
		top, err := os.Open(fmt.Sprintf("/proc/%d/root", s.Pid))
		if err != nil {
			return 0, err
		}
		defer top.Close()
		b.files = append(b.files, top)
	}
	b.args = r.initArgs(e.Preserve)
	return spawn(b)
}

// converseExec returns when the program has been executed: the wire then ends without an error having come.
func (r Runtime) converseExec(w *wire, c initConfig) error {
	if err := w.enc.Encode(c); err != nil {
		return fmt.Errorf("talk to init: %w", err)
	}
	ready := false
	for {
		var m message
		err := w.dec.Decode(&m)
		switch {
		case err != nil && ready && errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return errs.New(errs.Unavailable, "the process ended before its program ran; was it killed for want of memory?")
		case m.Say == sayReady:
			ready = true
			for _, warning := range m.Warnings {
				r.warn("%s", warning)
			}
		default:
			return m.err()
		}
	}
}

// Processes lists the pids of the container as the host sees them.
func (r Runtime) Processes(id string) ([]int, error) {
	s, err := r.load(id)
	if err != nil {
		return nil, err
	}
	g, err := s.group()
	if err != nil {
		return nil, err
	}
	return g.Procs()
}

// Group is the container's cgroup.
func (r Runtime) Group(id string) (*cgroup.Cgroup, error) {
	s, err := r.load(id)
	if err != nil {
		return nil, err
	}
	return s.group()
}
