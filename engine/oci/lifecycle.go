// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/knarr/knarr/engine/cgroup"
	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func writeJSONVolatile(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return atomicfile.WriteVolatile(path, data, 0o600)
}

// inDir runs f with a short name for a file in dir: a socket's address holds 107 bytes, a directory's path may be longer.
func inDir(dir, name string, f func(addr *unix.SockaddrUnix) error) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	return f(&unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(fd) + "/" + name})
}

// listenGate makes the socket that init accepts start's connection on.
func listenGate(dir string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	err = inDir(dir, gateFile, func(a *unix.SockaddrUnix) error { return unix.Bind(fd, a) })
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make the gate: %w", err)
	}
	return os.NewFile(uintptr(fd), "gate"), nil
}

// Start opens the gate of a created container and returns when its program runs, or with init's reason why it does not.
func (r Runtime) Start(id string) error {
	s, err := r.load(id)
	if err != nil {
		return err
	}
	if status := r.status(s); status != specs.StateCreated {
		return errs.New(errs.Conflict, "cannot start a container in the %s state", status)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "gate")
	defer f.Close()
	dir := r.dir(id)
	err = inDir(dir, gateFile, func(a *unix.SockaddrUnix) error { return unix.Connect(fd, a) })
	if err != nil {
		return errs.New(errs.Conflict, "cannot start container %q: its init is gone: %w", id, err)
	}
	// The gate goes first: two starts cannot both remove it, and so only one goes on.
	if err := os.Remove(filepath.Join(dir, gateFile)); err != nil {
		return errs.New(errs.Conflict, "container %q is being started already", id)
	}
	var m message
	if err := json.NewDecoder(f).Decode(&m); err == nil {
		return m.err()
	} else if !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
		return fmt.Errorf("start container %q: %w", id, err)
	}
	if s.Hooks != nil {
		if err := runHooks("poststart", s.Hooks.Poststart, s.hookState(specs.StateRunning)); err != nil {
			_ = r.Kill(id, unix.SIGKILL, true)
			return err
		}
	}
	return nil
}

func (s *state) hookState(status specs.ContainerState) specs.State {
	hs := specs.State{Version: specs.Version, ID: s.ID, Status: status, Bundle: s.Bundle, Annotations: s.Annotations}
	if status != specs.StateStopped {
		hs.Pid = s.Pid
	}
	return hs
}

// Kill sends sig to init, or to all processes of the container.
func (r Runtime) Kill(id string, sig syscall.Signal, all bool) error {
	s, err := r.load(id)
	if err != nil {
		return err
	}
	if all || (s.SharedPID && sig == unix.SIGKILL && s.Cgroup != "") {
		g, err := s.group()
		if err != nil {
			return err
		}
		if all || s.alive() {
			return g.Signal(sig)
		}
	}
	fd, err := s.pidfd()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil {
		return fmt.Errorf("signal container %q: %w", id, err)
	}
	// A frozen process dies only once it is thawed.
	if sig == unix.SIGKILL {
		if g, err := s.group(); err == nil && g.Frozen() {
			return g.Thaw()
		}
	}
	return nil
}

// Pause freezes the container's processes; Resume lets them go on.
func (r Runtime) Pause(id string) error { return r.freeze(id, true) }

// Resume undoes Pause.
func (r Runtime) Resume(id string) error { return r.freeze(id, false) }

func (r Runtime) freeze(id string, on bool) error {
	s, err := r.load(id)
	if err != nil {
		return err
	}
	if !s.alive() {
		return errs.New(errs.Gone, "container %q is not running", id)
	}
	g, err := s.group()
	if err != nil {
		return err
	}
	if on {
		return g.Freeze()
	}
	return g.Thaw()
}

// Update changes the container's limits while it runs.
func (r Runtime) Update(id string, resources *specs.LinuxResources) error {
	s, err := r.load(id)
	if err != nil {
		return err
	}
	g, err := s.group()
	if err != nil {
		return err
	}
	return g.Apply(resources)
}

// Delete removes what is left of a stopped container: its cgroup and its state; poststop hooks run. With force it is killed first, and
// one that does not exist is no error.
func (r Runtime) Delete(id string, force bool) error {
	s, err := r.load(id)
	if errors.Is(err, errs.NotFound) {
		if rmErr := os.RemoveAll(r.dir(id)); force && rmErr == nil {
			return nil // also what a create that was itself killed left
		}
		return err
	}
	if err != nil {
		return err
	}
	var g *cgroup.Cgroup
	if s.Cgroup != "" {
		if g, err = s.group(); err != nil {
			return err
		}
	}
	if s.alive() {
		// runc deletes a created container without force: it never ran.
		if status := r.status(s); !force && status != specs.StateCreated {
			return errs.New(errs.Conflict, "cannot delete container %q that is not stopped: it is %s", id, status)
		}
		if err := s.killAndWait(); err != nil {
			return err
		}
	}
	if g != nil && (s.SharedPID || force) {
		if err := g.Kill(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if g != nil && s.OwnCgroup {
		if err := g.Delete(); err != nil {
			return err
		}
	}
	if s.HostMounts {
		if err := unix.Unmount(s.Rootfs, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL {
			return fmt.Errorf("unmount %s: %w", s.Rootfs, err)
		}
	}
	if err := os.RemoveAll(r.dir(id)); err != nil {
		return err
	}
	if s.Hooks != nil {
		for _, h := range s.Hooks.Poststop {
			if err := runHook(h, s.hookState(specs.StateStopped)); err != nil {
				r.warn("hook poststop %s: %v", h.Path, err)
			}
		}
	}
	return nil
}

// killAndWait returns when init has ended, at most ten seconds later.
func (s *state) killAndWait() error {
	fd, err := s.pidfd()
	if errors.Is(err, errs.Gone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill container %q: %w", s.ID, err)
	}
	if g, err := s.group(); err == nil {
		_ = g.Kill()
		if g.Frozen() {
			_ = g.Thaw()
		}
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return errs.New(errs.Unavailable, "container %q does not end although it was killed", s.ID)
		}
		return nil
	}
}
