// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// withFiles calls do with the root of a container's files as its processes see them: the root file system and, with mounts,
// what is mounted into it from the host (not tmpfs, which only exists inside). It works on running and stopped containers alike.
//
// The view is a mount namespace of a thread of its own, so nothing of it shows on the host, nothing is left of it after a
// crash, and no process of the container is trusted to say where its root is. do runs on that thread.
func (e *Engine) withFiles(ctx context.Context, ref string, mounts bool, do func(root *inroot.Dir, rec record) error) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	c.op.Lock()
	unlock := c.op.Unlock
	defer func() {
		if unlock != nil {
			unlock()
		}
	}()
	st, rec := c.status(), c.record()
	if st.State == Removing || st.State == Dead {
		return errs.New(errs.Conflict, "container %s is being removed", c.id)
	}
	view := filepath.Join(e.cfg.RunDir, "view")
	if err := os.Mkdir(view, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return onThread(func() error {
		if err := ownMounts(); err != nil {
			return err
		}
		if st.running() {
			if err := unix.Mount(c.rootfs(), view, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("view of container %s: %w", c.id, err)
			}
		} else if err := e.cfg.Images.Mount(c.key(), view); err != nil {
			return err
		}
		root, err := inroot.Open(view)
		if err != nil {
			return err
		}
		defer root.Close()
		if mounts {
			for _, m := range rec.Mounts {
				if err := bindInto(root, m); err != nil {
					return fmt.Errorf("view of container %s: %s: %w", c.id, m.Target, err)
				}
			}
		}
		if st.running() { // a stopped one must not be started, and so mounted twice, while we write to it
			unlock()
			unlock = nil
		}
		return do(root, rec)
	})
}

// ownMounts gives the thread a mount table of its own, from which nothing gets out.
func ownMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return nil
}

// bindInto mounts a volume or bind mount at its place below root. The place is resolved once, below root, and mounted on by
// its descriptor.
func bindInto(root *inroot.Dir, m MountPoint) error {
	if m.Type == "tmpfs" || m.Type == "image" {
		return nil
	}
	if m.Subpath != "" {
		source, err := inroot.Open(m.Source)
		if err != nil {
			return err
		}
		defer source.Close()
		sub, err := source.Open(m.Subpath, unix.O_PATH, 0)
		if err != nil {
			return err
		}
		defer sub.Close()
		m.Source = "/proc/thread-self/fd/" + strconv.Itoa(int(sub.Fd()))
	}
	at, err := root.Open(m.Target, unix.O_PATH, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the container has not been started since it, or what leads to it, was removed
	}
	if err != nil {
		return err
	}
	defer at.Close()
	place := "/proc/thread-self/fd/" + strconv.Itoa(int(at.Fd()))
	if err := unix.Mount(m.Source, place, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if !m.ReadOnly {
		return nil
	}
	top, err := root.Open(m.Target, unix.O_PATH, 0) // now what was mounted
	if err != nil {
		return err
	}
	defer top.Close()
	return unix.Mount("", "/proc/thread-self/fd/"+strconv.Itoa(int(top.Fd())), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
}
