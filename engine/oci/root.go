// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"fmt"
	"path"
	"strings"

	"github.com/knarr/knarr/internal/errs"
	"golang.org/x/sys/unix"
)

// root is the container's root directory while its content cannot be trusted. Every path is looked up below it by the
// kernel, in one call, following symlinks as if it were / already.
type root struct{ fd int }

// open opens a path below the root. Magic links (/proc/self/fd/…) are never followed.
func (r root) open(p string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(r.fd, p, &how)
		if err == unix.EINTR || err == unix.EAGAIN { // EAGAIN: a rename or mount elsewhere disturbed the walk
			continue
		}
		if err != nil {
			return -1, fmt.Errorf("open %s in the root file system: %w", p, err)
		}
		return fd, nil
	}
}

// mkdirAll opens the directory p and makes what of it is missing, owned by root with mode 0755.
func (r root) mkdirAll(p string) (int, error) {
	if fd, err := r.open(p, unix.O_PATH|unix.O_DIRECTORY); err == nil {
		return fd, nil
	}
	done := "/"
	for _, name := range strings.Split(strings.Trim(path.Clean(p), "/"), "/") {
		next := path.Join(done, name)
		if fd, err := r.open(next, unix.O_PATH|unix.O_DIRECTORY); err == nil {
			unix.Close(fd)
			done = next
			continue
		}
		dir, err := r.open(done, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return -1, err
		}
		err = unix.Mkdirat(dir, name, 0o755)
		unix.Close(dir)
		if err != nil && err != unix.EEXIST {
			return -1, fmt.Errorf("make directory %s in the root file system: %w", next, err)
		}
		done = next
	}
	return r.open(p, unix.O_PATH|unix.O_DIRECTORY)
}

// parent opens the directory of p, making it if need be, and gives the last name.
func (r root) parent(p string) (int, string, error) {
	dir, name := path.Split(path.Clean(p))
	if name == "" || name == "." || name == ".." {
		return -1, "", errs.New(errs.Invalid, "%q names no file", p)
	}
	fd, err := r.mkdirAll(dir)
	return fd, name, err
}

// target opens the place for a mount and makes it, a directory or an empty file, where it is missing.
func (r root) target(p string, dir bool) (int, error) {
	if dir {
		return r.mkdirAll(p)
	}
	if fd, err := r.open(p, unix.O_PATH); err == nil {
		return fd, nil
	}
	parent, name, err := r.parent(p)
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	fd, err := unix.Openat(parent, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err == nil {
		unix.Close(fd)
	} else if err != unix.EEXIST {
		return -1, fmt.Errorf("make file %s in the root file system: %w", p, err)
	}
	return r.open(p, unix.O_PATH)
}

// fdPath names an open file for calls that take only paths. It needs the host's /proc, so it is for before the pivot.
func fdPath(fd int) string { return fmt.Sprintf("/proc/thread-self/fd/%d", fd) }

func isDir(fd int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// onFS says whether fd lies on a file system of the given magic number (statfs(2)).
func onFS(fd int, magic int64) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && int64(st.Type) == magic
}
