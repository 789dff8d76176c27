// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// The functions below make one kind of entry each. base does not exist in parent, or is the directory just made.

func (u *unpacker) directory(parent *inroot.Dir, name, base string, h *tar.Header, opaque bool) error {
	d, err := parent.SubNoFollow(base)
	if err != nil {
		return err
	}
	defer d.Close()
	if opaque { // its whiteout came first in the tar
		if err := setOpaque(d); err != nil {
			return err
		}
	}
	return u.finishDir(d, name, h)
}

func (u *unpacker) finishDir(d *inroot.Dir, name string, h *tar.Header) error {
	u.dirs = append(u.dirs, dirTime{name, times(h)})
	return u.attributes(d.Fd(), h)
}

func (u *unpacker) regular(parent *inroot.Dir, base string, h *tar.Header, r io.Reader) error {
	f, err := createAt(parent, base)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := u.content(f, r); err != nil {
		return err
	}
	if err := u.attributes(int(f.Fd()), h); err != nil {
		return err
	}
	return utimes(int(f.Fd()), times(h))
}

func createAt(parent *inroot.Dir, base string) (*os.File, error) {
	flags := unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(parent.Fd(), base, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), base), nil
}

// content copies one file, counting against Limits.Bytes and looking at the free space every 64 MiB.
func (u *unpacker) content(f *os.File, r io.Reader) error {
	for {
		n, err := r.Read(u.buf)
		if n > 0 {
			if err := u.spend(f, int64(n)); err != nil {
				return err
			}
			if _, err := f.Write(u.buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return asInvalid(err)
		}
	}
}

func (u *unpacker) spend(f *os.File, n int64) error {
	const look = 64 << 20
	u.count.Bytes += n
	if u.count.Bytes > u.opt.Limits.Bytes {
		return errs.New(errs.TooLarge, "more than %d bytes", u.opt.Limits.Bytes)
	}
	if u.since += n; u.since < look {
		return nil
	}
	u.since = 0
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	if free := int64(st.Bavail) * st.Bsize; free < u.opt.Limits.Reserve+look {
		return errs.New(errs.TooLarge, "no space: %d bytes are free on the disk and %d must stay so", free, u.opt.Limits.Reserve)
	}
	return nil
}

func (u *unpacker) symlink(parent *inroot.Dir, base string, h *tar.Header) error {
	if h.Linkname == "" {
		return errs.New(errs.Invalid, "a symbolic link without a target")
	}
	if err := unix.Symlinkat(h.Linkname, parent.Fd(), base); err != nil {
		return err
	}
	return u.ownAt(parent, base, h)
}

// hardlink links to a file of this layer, or copies one of the layers below: overlayfs would copy it up as well.
func (u *unpacker) hardlink(parent *inroot.Dir, base string, h *tar.Header) error {
	from, target, err := u.root.Parent(h.Linkname)
	if err == nil {
		err = linkAt(from, target, parent, base)
		from.Close()
	}
	if err == nil || !errors.Is(err, unix.ENOENT) || u.opt.Lower == nil {
		if err != nil {
			return fmt.Errorf("hard link to %.200q: %w", h.Linkname, err)
		}
		return nil
	}
	low, err := u.opt.Lower(h.Linkname)
	if err != nil {
		return fmt.Errorf("hard link to %.200q: %w", h.Linkname, err)
	}
	defer low.Close()
	return u.copyUp(low, parent, base)
}

func linkAt(from *inroot.Dir, target string, parent *inroot.Dir, base string) error {
	st, err := from.LstatAt(target)
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR || isWhiteout(&st) {
		return unix.EPERM
	}
	return unix.Linkat(from.Fd(), target, parent.Fd(), base, 0)
}

func (u *unpacker) copyUp(low *os.File, parent *inroot.Dir, base string) error {
	h, err := headerOf(low, base)
	if err != nil {
		return err
	}
	return u.regular(parent, base, h, low)
}

// headerOf describes an open regular file as a tar header.
func headerOf(f *os.File, name string) (*tar.Header, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errs.New(errs.Invalid, "not a regular file")
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: st.Size, Mode: int64(st.Mode & 0o7777),
		Uid: int(st.Uid), Gid: int(st.Gid), ModTime: time.Unix(st.Mtim.Sec, 0)}
	var err error
	h.PAXRecords, err = readXattrs(int(f.Fd()))
	return h, err
}

func (u *unpacker) device(parent *inroot.Dir, base string, h *tar.Header) error {
	mode := uint32(h.Mode & 0o7777)
	switch h.Typeflag {
	case tar.TypeChar:
		mode |= unix.S_IFCHR
	case tar.TypeBlock:
		mode |= unix.S_IFBLK
	case tar.TypeFifo:
		mode |= unix.S_IFIFO
	}
	if h.Devmajor < 0 || h.Devminor < 0 || h.Devmajor > 1<<12-1 || h.Devminor > 1<<20-1 {
		return errs.New(errs.Invalid, "device %d:%d is out of range", h.Devmajor, h.Devminor)
	}
	dev := int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	if err := unix.Mknodat(parent.Fd(), base, mode, dev); err != nil {
		return err
	}
	if err := u.ownAt(parent, base, h); err != nil {
		return err
	}
	return unix.Fchmodat(parent.Fd(), base, mode&0o7777, 0) // after chown, which may clear bits; umask clears more
}

// ownAt sets owner and time of an entry that cannot be opened.
func (u *unpacker) ownAt(parent *inroot.Dir, base string, h *tar.Header) error {
	o := u.owner(h)
	if err := unix.Fchownat(parent.Fd(), base, o.UID, o.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	ts := times(h)
	return unix.UtimesNanoAt(parent.Fd(), base, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

// attributes sets owner, mode and extended attributes, in the order that lets each survive: chown clears set-id bits and capabilities.
func (u *unpacker) attributes(fd int, h *tar.Header) error {
	o := u.owner(h)
	if err := unix.Fchown(fd, o.UID, o.GID); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, uint32(h.Mode&0o7777)); err != nil {
		return err
	}
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, paxXattr)
		if !ok || !keepXattr(name) {
			continue
		}
		err := unix.Fsetxattr(fd, name, []byte(v), 0)
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !(errors.Is(err, unix.EPERM) && strings.HasPrefix(name, "user.")) {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	return nil
}

func (u *unpacker) owner(h *tar.Header) Owner {
	if u.opt.Owner != nil {
		return *u.opt.Owner
	}
	return Owner{h.Uid, h.Gid}
}

// keepXattr lists the attributes a layer may carry. trusted.overlay.redirect, for one, would let it show any host path.
func keepXattr(name string) bool {
	return name == capXattr || strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

func times(h *tar.Header) [2]unix.Timespec {
	const last = 253402300799 // the year 9999; file systems take less or more, tar headers anything
	ts := unix.Timespec{Sec: min(max(h.ModTime.Unix(), 0), last)}
	return [2]unix.Timespec{ts, ts}
}

func utimes(fd int, ts [2]unix.Timespec) error {
	// An empty path with AT_EMPTY_PATH names the descriptor itself (Linux 5.8).
	return unix.UtimesNanoAt(fd, "", ts[:], unix.AT_EMPTY_PATH)
}
