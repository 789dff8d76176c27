// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
)

// NewNamespace makes a network namespace with lo up and pins it at path by a bind mount; the folder is made. A namespace
// that is pinned there already is errs.Exists.
func (n *Networks) NewNamespace(_ context.Context, path string) error {
	if err := newNamespace(path); err != nil {
		return fmt.Errorf("make network namespace %s: %w", path, err)
	}
	return nil
}

func newNamespace(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if pinned(path) {
		return errs.Exists
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY|unix.O_NOFOLLOW, 0o400)
	if err != nil {
		return err
	}
	f.Close()
	done := make(chan error, 1)
	go func() { done <- unshareAndPin(path) }()
	if err := <-done; err != nil {
		os.Remove(path)
		return err
	}
	return nil
}

// unshareAndPin runs in a goroutine of its own: if the thread cannot go back to the host's namespace it stays locked, and Go
// ends a locked thread together with its goroutine.
func unshareAndPin(path string) error {
	runtime.LockOSThread()
	host, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open this thread's namespace: %w", err)
	}
	defer unix.Close(host)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	err = errors.Join(loopbackUp(), disableIPv6ForNewLinks(), openLowPorts())
	if err == nil {
		err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	}
	if unix.Setns(host, unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

// loopbackUp is one ioctl: cheaper than a netlink socket for a single flag.
func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// disableIPv6ForNewLinks spares IPv4 networks link-local addresses that nothing routes, and their duplicate detection, which
// a hairpin port would answer to itself. lo keeps ::1.
func disableIPv6ForNewLinks() error { return setLinkSysctl("ipv6", "default", "disable_ipv6", "1") }

// setSysctlsInside sets net.ipv6.conf.<link>.* in a sandbox's namespace. It needs a thread there, as /proc/sys/net is that of
// whoever looks.
func setSysctlsInside(ns *os.File, link string, values map[string]string) error {
	done := make(chan error, 1)
	go func() { // see unshareAndPin
		runtime.LockOSThread()
		host, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- fmt.Errorf("open this thread's namespace: %w", err)
			return
		}
		defer unix.Close(host)
		err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		for key, value := range values {
			if err == nil {
				err = setLinkSysctl("ipv6", link, key, value)
			}
		}
		if unix.Setns(host, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// openLowPorts lets any user listen below port 1024, as Docker and containerd do: the ports of a namespace that holds one
// sandbox are nobody else's. /proc/sys/net is that of the thread's own namespace.
func openLowPorts() error {
	return os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
}

// RemoveNamespace unpins it; the kernel frees it when its last process has gone. Missing is no error.
func (n *Networks) RemoveNamespace(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // EINVAL: not a mount point
		return fmt.Errorf("remove network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove network namespace %s: %w", path, err)
	}
	return nil
}

// pinned says whether a namespace is mounted at path.
func pinned(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}
