// SPDX-License-Identifier: Apache-2.0

package build

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// defaultAgent is the id of an ssh mount that names none.
const defaultAgent = "default"

// secret puts a secret of the request into a file in memory, or into the environment.
func (ms *runMounts) secret(w *mountWant) error {
	id := cmp.Or(w.CacheID, w.Source)
	if id == "" {
		id = path.Base(w.target)
	}
	value, ok := ms.r.e.req.Secrets[id]
	if !ok {
		if w.Required {
			return errs.New(errs.Invalid, "secret %s: not found; give it with --secret id=%s,src=FILE", id, id)
		}
		return nil
	}
	if w.Env != nil {
		ms.env = append(ms.env, cmp.Or(*w.Env, id)+"="+string(value))
		if w.target == "" {
			return nil
		}
	}
	if w.target == "" {
		w.target = "/run/secrets/" + path.Base(id)
	}
	dir, err := ms.r.e.memory()
	if err != nil {
		return err
	}
	name := filepath.Join(dir, fmt.Sprintf("%s-%d", ms.r.e.nextKey(), len(ms.list)))
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if _, err := f.Write(value); err != nil {
		return err
	}
	if err := finishFile(f, id32(w.UID), id32(w.GID), modeOr(w.Mode, 0o400)); err != nil {
		return err
	}
	ms.release = append(ms.release, func() { os.Remove(name) })
	ms.add(w, name)
	return nil
}

func id32(id *uint64) int {
	if id == nil {
		return 0
	}
	return int(*id)
}

func modeOr(mode *uint64, or uint32) uint32 {
	if mode == nil {
		return or
	}
	return uint32(*mode) & 0o777
}

// memory is a folder of the build that is on no disk; it goes with the build.
func (e *execution) memory() (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.secrets != "" {
		return e.secrets, nil
	}
	dir, err := e.mountPoint()
	if err != nil {
		return "", err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700,size=16m"); err != nil {
		return "", fmt.Errorf("mount a folder for secrets: %w", err)
	}
	e.secrets = dir
	return dir, nil
}

// agent passes an SSH agent on: a socket of the step's own, whose connections go to the requester's agent.
func (ms *runMounts) agent(w *mountWant) error {
	id := cmp.Or(w.CacheID, defaultAgent)
	agent, ok := ms.r.e.req.SSH[id]
	if !ok {
		if w.Required {
			return errs.New(errs.Invalid, "SSH agent %s: not given; use --ssh %s", id, id)
		}
		return nil
	}
	if w.target == "" {
		w.target = fmt.Sprintf("/run/buildkit/ssh_agent.%d", ms.agents)
	}
	if ms.agents++; ms.agents == 1 {
		ms.env = append(ms.env, "SSH_AUTH_SOCK="+w.target)
	}
	dir, err := os.MkdirTemp(ms.r.e.work, "ssh-")
	if err != nil {
		return err
	}
	name := filepath.Join(dir, "agent")
	stop, err := forward(name, agent, id32(w.UID), id32(w.GID), modeOr(w.Mode, 0o600))
	if err != nil {
		return err
	}
	ms.release = append(ms.release, stop)
	ms.add(w, name)
	return nil
}

// forward listens on name and passes each connection on to the socket to, until stop is called.
func forward(name, to string, uid, gid int, mode uint32) (stop func(), err error) {
	dir, err := inroot.Open(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	short := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(name)) // a socket's address holds 107 bytes
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Lchown(name, uid, gid), os.Chmod(name, os.FileMode(mode))); err != nil {
		l.Close()
		return nil, err
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			all.Go(func() { join(conn, to) })
		}
	})
	return func() { l.Close(); all.Wait() }, nil
}

// join copies both ways until either side has ended.
func join(conn *net.UnixConn, to string) {
	defer conn.Close()
	agent, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: to})
	if err != nil {
		return // the command sees the connection end
	}
	defer agent.Close()
	done := make(chan struct{}, 2)
	copyTo := func(a, b *net.UnixConn) {
		io.Copy(a, b)
		done <- struct{}{}
	}
	go copyTo(agent, conn)
	go copyTo(conn, agent)
	<-done
}
