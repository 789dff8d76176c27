// SPDX-License-Identifier: Apache-2.0

// Package inroot opens, makes and removes files below one directory that may be hostile, and nowhere else.
//
// Names are resolved by the kernel as a process would that has the directory as its root: symbolic links are followed, but
// ".." and absolute targets stop at the root, and magic links of /proc are refused (openat2 with RESOLVE_IN_ROOT and
// RESOLVE_NO_MAGICLINKS, Linux 5.6). Nothing is checked first and used later, so a link that changes meanwhile wins nothing.
//
// It knows no tar, image or container. A Dir holds one descriptor and no goroutine; it may be used concurrently.
package inroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is an open directory that names are resolved in.
type Dir struct{ f *os.File }

const resolve = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// Open opens a trusted host path as a root. Its last element must not be a symbolic link.
func Open(hostPath string) (*Dir, error) {
	fd, err := unix.Open(hostPath, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: hostPath, Err: err}
	}
	return &Dir{os.NewFile(uintptr(fd), hostPath)}, nil
}

// Close releases the descriptor.
func (d *Dir) Close() error { return d.f.Close() }

// Fd is the directory's descriptor, valid until Close.
func (d *Dir) Fd() int { return int(d.f.Fd()) }

// HostPath is the path given to Open, or what the directory was called when it was opened; for messages only.
func (d *Dir) HostPath() string { return d.f.Name() }

// Open opens name. Flags are open(2)'s; O_CLOEXEC is added. O_NOFOLLOW concerns the last element only.
func (d *Dir) Open(name string, flags int, mode uint32) (*os.File, error) {
	how := &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve}
	if flags&unix.O_CREAT != 0 {
		how.Mode = uint64(mode)
	}
	for {
		fd, err := unix.Openat2(d.Fd(), kernelName(name), how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path.Join(d.f.Name(), name)), nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN): // a rename elsewhere raced with ".."
			continue
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
}

// Sub opens a directory below d as a Dir of its own: from then on ".." and "/" stop at it.
func (d *Dir) Sub(name string) (*Dir, error) {
	f, err := d.Open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &Dir{f}, nil
}

// SubNoFollow is Sub, but the last element must not be a symbolic link.
func (d *Dir) SubNoFollow(name string) (*Dir, error) {
	f, err := d.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	return &Dir{f}, nil
}

// Parent opens the directory that holds name's last element and answers that element, which is never "..", "." or empty
// and may itself be a symbolic link. The root has no parent.
func (d *Dir) Parent(name string) (*Dir, string, error) {
	dir, base, err := Split(name)
	if err != nil {
		return nil, "", err
	}
	p, err := d.Sub(dir)
	return p, base, err
}

// Split cleans name as if it were absolute and divides it. The root itself is an error.
func Split(name string) (dir, base string, err error) {
	clean := path.Clean("/" + name)
	if clean == "/" {
		return "", "", &fs.PathError{Op: "split", Path: name, Err: unix.EISDIR}
	}
	dir, base = path.Split(clean)
	return dir, base, nil
}

// Lstat stats name without following its last element.
func (d *Dir) Lstat(name string) (unix.Stat_t, error) { return d.stat(name, unix.O_NOFOLLOW) }

// Stat stats what name leads to.
func (d *Dir) Stat(name string) (unix.Stat_t, error) { return d.stat(name, 0) }

func (d *Dir) stat(name string, flags int) (unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := d.Open(name, unix.O_PATH|flags, 0)
	if err != nil {
		return st, err
	}
	defer f.Close()
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return st, nil
}

// LstatAt stats one element of d itself.
func (d *Dir) LstatAt(base string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(d.Fd(), base, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

// MkdirAll makes name and the parents it lacks with mode (umask applies not) and root as owner, and opens it. made, if
// not nil, is called for each directory made.
func (d *Dir) MkdirAll(name string, mode uint32, made func(dir *Dir, name string) error) (*Dir, error) {
	if sub, err := d.Sub(name); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return sub, err
	}
	elems := strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/")
	cur := ""
	for _, e := range elems {
		parent, err := d.Sub(cur)
		if err != nil {
			return nil, err
		}
		cur = path.Join(cur, e)
		err = mkdirIn(parent, e, cur, mode, made)
		parent.Close()
		if err != nil {
			return nil, err
		}
	}
	return d.Sub(name)
}

func mkdirIn(parent *Dir, base, full string, mode uint32, made func(*Dir, string) error) error {
	err := unix.Mkdirat(parent.Fd(), base, mode)
	if errors.Is(err, unix.EEXIST) {
		return nil // a link or a file is told apart by the Sub that follows
	}
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: full, Err: err}
	}
	sub, err := parent.SubNoFollow(base)
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := unix.Fchmod(sub.Fd(), mode); err != nil { // whatever the umask
		return err
	}
	if made != nil {
		return made(sub, full)
	}
	return nil
}

// RemoveAll removes name and all below it; it follows no link. A missing name is no error. It stays on one file system:
// a mount point below name is an error (EBUSY or EXDEV), never emptied.
func (d *Dir) RemoveAll(name string) error {
	p, base, err := d.Parent(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	defer p.Close()
	return p.RemoveAllAt(base)
}

// RemoveAllAt is RemoveAll for one element of d itself.
func (d *Dir) RemoveAllAt(base string) error {
	var dev unix.Stat_t
	if err := unix.Fstat(d.Fd(), &dev); err != nil {
		return err
	}
	return removeAt(d.Fd(), base, dev.Dev)
}

func removeAt(dirfd int, base string, dev uint64) error {
	err := unix.Unlinkat(dirfd, base, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("remove %s: %w", base, err)
	}
	fd, err := unix.Openat(dirfd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("remove %s: %w", base, err)
	}
	f := os.NewFile(uintptr(fd), base)
	err = emptyDir(f, dev)
	f.Close()
	if err != nil {
		return err
	}
	if err := unix.Unlinkat(dirfd, base, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s: %w", base, err)
	}
	return nil
}

func emptyDir(f *os.File, dev uint64) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Dev != dev {
		return fmt.Errorf("remove %s: %w", f.Name(), unix.EXDEV)
	}
	names, err := f.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("remove %s: %w", f.Name(), err)
	}
	for _, n := range names {
		if err := removeAt(int(f.Fd()), n, dev); err != nil {
			return err
		}
	}
	return nil
}

// kernelName is name as openat2 wants it: not empty. A leading slash means the root under RESOLVE_IN_ROOT.
func kernelName(name string) string {
	if name == "" {
		return "."
	}
	return name
}
