// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// CopyUp fills an empty volume from path inside rootfs (a container's root as mounted, or an image's): owner, mode, times,
// extended attributes, symbolic and hard links, devices; sockets are left out. The volume's own folder takes owner and mode
// of path. A volume that has content, and a path that is missing or no folder, copy nothing.
func (v *Volumes) CopyUp(name, rootfs, path string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := v.get(name); err != nil {
		return err
	}
	if err := v.copyUp(name, rootfs, path); err != nil {
		return fmt.Errorf("copy %s of the image to volume %s: %w", path, name, err)
	}
	return nil
}

func (v *Volumes) copyUp(name, rootfs, path string) error {
	data := v.path(name)
	if empty, err := isEmpty(data); err != nil || !empty {
		return err
	}
	src, err := openInRoot(rootfs, path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	} else if err != nil {
		return err
	}
	defer src.Close()
	staging := filepath.Join(v.dir, name, copyDir)
	onIt := len(v.volumes[name].Options) > 0 // another file system, which must stay where it is
	if onIt {
		staging = filepath.Join(data, copyDir)
	}
	if err := os.RemoveAll(staging); err != nil {
		return err
	}
	if err := os.Mkdir(staging, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(staging)
	dst, err := os.Open(staging)
	if err != nil {
		return err
	}
	defer dst.Close()
	c := &copier{top: dst, links: map[inode]string{}}
	if err := c.dir(src, dst, "", 0); err != nil {
		return err
	}
	if onIt {
		if err := takeAttributes(staging, data); err != nil {
			return err
		}
	}
	if onIt || len(v.users[name]) > 1 {
		return moveInto(staging, data) // somebody has the folder mounted: it must stay the same folder
	}
	return unix.Rename(staging, data) // over an empty folder, which os.Rename refuses
}

func isEmpty(dir string) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}

// openInRoot opens a folder as a process inside rootfs would see it: ".." and absolute links stay inside.
func openInRoot(rootfs, path string) (*os.File, error) {
	root, err := unix.Open(rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", rootfs, err)
	}
	defer unix.Close(root)
	how := &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := unix.Openat2(root, strings.TrimLeft(path, "/")+"/.", how)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// takeAttributes gives a folder all that another has but its content.
func takeAttributes(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Open(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	return finish(src, dst, &st)
}

func moveInto(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

type inode struct{ dev, ino uint64 }

// copier copies one tree. Every name is used relative to an open folder and never followed.
type copier struct {
	top   *os.File
	links map[inode]string // files with several names: where the first went, relative to top
}

// maxDepth bounds the recursion; PATH_MAX allows about 2048 levels by path, an image's layers no more.
const maxDepth = 4096

func (c *copier) dir(src, dst *os.File, rel string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: more than %d folders deep", rel, maxDepth)
	}
	names, err := src.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.entry(src, dst, name, filepath.Join(rel, name), depth); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	return finish(src, dst, &st)
}

func (c *copier) entry(src, dst *os.File, name, rel string, depth int) error {
	sfd, dfd := int(src.Fd()), int(dst.Fd())
	var st unix.Stat_t
	if err := unix.Fstatat(sfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		if first, ok := c.links[inode{st.Dev, st.Ino}]; ok {
			return unix.Linkat(int(c.top.Fd()), first, dfd, name, 0)
		}
		c.links[inode{st.Dev, st.Ino}] = rel
	}
	switch kind {
	case unix.S_IFDIR:
		if err := unix.Mkdirat(dfd, name, 0o700); err != nil {
			return err
		}
		return c.both(src, dst, name, unix.O_RDONLY|unix.O_DIRECTORY, unix.O_RDONLY|unix.O_DIRECTORY, func(s, d *os.File) error {
			return c.dir(s, d, rel, depth+1)
		})
	case unix.S_IFREG:
		return c.both(src, dst, name, unix.O_RDONLY|unix.O_NONBLOCK, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, func(s, d *os.File) error {
			if _, err := io.Copy(d, s); err != nil { // copy_file_range(2): a reflink where the filesystem can
				return err
			}
			return finish(s, d, &st)
		})
	case unix.S_IFLNK:
		return copySymlink(sfd, dfd, name, &st)
	case unix.S_IFSOCK:
		return nil
	default:
		if err := unix.Mknodat(dfd, name, st.Mode, int(st.Rdev)); err != nil {
			return err
		}
		if err := own(dfd, name, &st); err != nil {
			return err
		}
		return unix.Fchmodat(dfd, name, st.Mode&0o7777, 0) // we have just made it, and it is no link
	}
}

func (c *copier) both(src, dst *os.File, name string, sflags, dflags int, f func(s, d *os.File) error) error {
	s, err := openAt(src, name, sflags)
	if err != nil {
		return err
	}
	defer s.Close()
	d, err := openAt(dst, name, dflags)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(s, d)
}

func openAt(dir *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func copySymlink(sfd, dfd int, name string, st *unix.Stat_t) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(sfd, name, buf)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(string(buf[:n]), dfd, name); err != nil {
		return err
	}
	return own(dfd, name, st)
}

// own sets owner and times of a name without following it.
func own(dfd int, name string, st *unix.Stat_t) error {
	if err := unix.Fchownat(dfd, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.UtimesNanoAt(dfd, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// finish gives an open file or folder everything but its content. The mode comes after the owner, because changing the
// owner takes set-user-id away; file capabilities, an extended attribute, come after both.
func finish(src, dst *os.File, st *unix.Stat_t) error {
	fd := int(dst.Fd())
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return err
	}
	if err := copyXattrs(int(src.Fd()), fd); err != nil {
		return err
	}
	return unix.UtimesNanoAt(fd, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}

func copyXattrs(src, dst int) error {
	list, err := xattr(func(buf []byte) (int, error) { return unix.Flistxattr(src, buf) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	} else if err != nil {
		return err
	}
	for _, name := range strings.Split(strings.TrimRight(string(list), "\x00"), "\x00") {
		// overlayfs's own attributes say how layers lie on each other; they are no part of the file.
		if name == "" || strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		value, err := xattr(func(buf []byte) (int, error) { return unix.Fgetxattr(src, name, buf) })
		if err != nil {
			return fmt.Errorf("read attribute %s: %w", name, err)
		}
		if err := unix.Fsetxattr(dst, name, value, 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	return nil
}

// xattr asks twice: how large, then what. The kernel's bound is 64 KiB.
func xattr(get func([]byte) (int, error)) ([]byte, error) {
	size, err := get(nil)
	if err != nil || size == 0 {
		return nil, err
	}
	buf := make([]byte, size)
	size, err = get(buf)
	return buf[:max(size, 0)], err
}
