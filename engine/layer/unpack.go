// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// UnpackOptions of Unpack; the zero value unpacks an ordinary archive.
type UnpackOptions struct {
	Limits Limits
	// Whiteouts reads names starting with ".wh." as OCI's whiteouts. Otherwise they are plain names.
	Whiteouts bool
	// KeepKind refuses to replace a directory by something else or the reverse (docker cp).
	KeepKind bool
	// Owner, if not nil, replaces every entry's owner.
	Owner *Owner
	// Lower opens a regular file of the layers below, for a hard link to it; nil or an error: the link is an error.
	Lower func(name string) (*os.File, error)
}

// Owner is a numeric user and group.
type Owner struct{ UID, GID int }

// Unpacked is what Unpack made.
type Unpacked struct {
	Entries int64
	Bytes   int64 // of regular files
}

type unpacker struct {
	root  *inroot.Dir
	opt   UnpackOptions
	count Unpacked
	since int64       // bytes written since free space was looked at
	dirs  []dirTime   // times are set last: making an entry changes its directory's
	last  *inroot.Dir // the parent of the entry before, most often that of the next
	lastN string
	buf   []byte
}

type dirTime struct {
	name string
	ts   [2]unix.Timespec
}

// Unpack writes the tar r below root. It reads r to the end of the archive, not further. What was written before an
// error stays; the caller throws the directory away.
func Unpack(ctx context.Context, root *inroot.Dir, r io.Reader, opt UnpackOptions) (Unpacked, error) {
	opt.Limits = opt.Limits.withDefaults()
	u := &unpacker{root: root, opt: opt, buf: make([]byte, 256<<10)}
	defer u.forget()
	tr := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return u.count, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return u.count, u.setDirTimes()
		}
		if err != nil {
			return u.count, asInvalid(err)
		}
		if err := u.entry(h, tr); err != nil {
			return u.count, fmt.Errorf("entry %d %.200q: %w", u.count.Entries, h.Name, err)
		}
	}
}

// asInvalid marks what archive/tar calls malformed as the sender's fault; a failing reader keeps its own error.
func asInvalid(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errs.New(errs.Invalid, "malformed tar: %w", err)
	}
	return err
}

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	u.count.Entries++
	if err := u.check(h); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	default:
		return errs.New(errs.Invalid, "tar entry type %q is not known", h.Typeflag)
	}
	name := path.Clean("/" + h.Name)
	if name == "/" {
		if h.Typeflag != tar.TypeDir {
			return errs.New(errs.Invalid, "the root is not a directory")
		}
		return u.finishDir(u.root, name, h)
	}
	dir, base := path.Split(name)
	parent, err := u.parent(dir)
	if err != nil {
		return err
	}
	if u.opt.Whiteouts && strings.HasPrefix(base, whiteoutPrefix) {
		return u.whiteout(parent, base)
	}
	return u.place(parent, name, base, h, r)
}

func (u *unpacker) check(h *tar.Header) error {
	l := u.opt.Limits
	switch {
	case u.count.Entries > l.Entries:
		return errs.New(errs.TooLarge, "more than %d entries", l.Entries)
	case len(h.Name) > l.Path || len(h.Linkname) > l.Path:
		return errs.New(errs.TooLarge, "a name is longer than %d bytes", l.Path)
	case strings.Count(h.Name, "/") > l.Depth:
		return errs.New(errs.TooLarge, "more than %d directories deep", l.Depth)
	case strings.ContainsRune(h.Name, 0) || strings.ContainsRune(h.Linkname, 0):
		return errs.New(errs.Invalid, "a name holds a zero byte")
	case h.Size < 0 || h.Size > l.Bytes-u.count.Bytes:
		return errs.New(errs.TooLarge, "more than %d bytes", l.Bytes)
	case !validID(h.Uid) || !validID(h.Gid):
		return errs.New(errs.Invalid, "owner %d:%d is out of range", h.Uid, h.Gid)
	}
	return nil
}

// validID leaves out 2^32-1, which chown(2) takes for "do not change".
func validID(id int) bool { return id >= 0 && int64(id) < 1<<32-1 }

// parent opens a directory, making it and what leads to it if the tar left them out.
func (u *unpacker) parent(dir string) (*inroot.Dir, error) {
	if u.last != nil && u.lastN == dir {
		return u.last, nil
	}
	d, err := u.root.MkdirAll(dir, 0o755, nil)
	if err != nil {
		return nil, err
	}
	u.forget()
	u.last, u.lastN = d, dir
	return d, nil
}

func (u *unpacker) forget() {
	if u.last != nil {
		u.last.Close()
		u.last = nil
	}
}

// whiteout hides a name of the layers below; what this layer itself has under that name stays, as the specification says.
func (u *unpacker) whiteout(parent *inroot.Dir, base string) error {
	if base == opaqueMarker {
		return setOpaque(parent)
	}
	if strings.HasPrefix(base, metaPrefix) {
		return nil
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	if hidden == "" || hidden == "." || hidden == ".." {
		return errs.New(errs.Invalid, "a whiteout without a name")
	}
	st, err := parent.LstatAt(hidden)
	switch {
	case errors.Is(err, unix.ENOENT):
		return unix.Mknodat(parent.Fd(), hidden, unix.S_IFCHR, 0)
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		sub, err := parent.SubNoFollow(hidden)
		if err != nil {
			return err
		}
		defer sub.Close()
		return setOpaque(sub)
	}
	return nil
}

func setOpaque(d *inroot.Dir) error {
	if err := unix.Fsetxattr(d.Fd(), opaqueXattr, []byte("y"), 0); err != nil {
		return fmt.Errorf("mark opaque: %w", err)
	}
	return nil
}

func isWhiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }

// place makes the entry base in parent, in place of what is there.
func (u *unpacker) place(parent *inroot.Dir, name, base string, h *tar.Header, r io.Reader) error {
	st, err := parent.LstatAt(base)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	exists, hides := err == nil, false
	if exists {
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if isDir && h.Typeflag == tar.TypeDir {
			return u.directory(parent, name, base, h, false)
		}
		hides = u.opt.Whiteouts && isWhiteout(&st)
		if u.opt.KeepKind && isDir != (h.Typeflag == tar.TypeDir) {
			return errs.New(errs.Conflict, "cannot overwrite %s with %s", kindWord(isDir), kindWord(!isDir))
		}
		if h.Typeflag == tar.TypeLink && u.sameFile(&st, h.Linkname) {
			return nil
		}
		if err := parent.RemoveAllAt(base); err != nil {
			return err
		}
		if isDir {
			defer u.forget() // the remembered parent may have been inside
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := unix.Mkdirat(parent.Fd(), base, 0o700); err != nil {
			return err
		}
		return u.directory(parent, name, base, h, hides)
	case tar.TypeReg:
		return u.regular(parent, base, h, r)
	case tar.TypeLink:
		return u.hardlink(parent, base, h)
	case tar.TypeSymlink:
		return u.symlink(parent, base, h)
	}
	return u.device(parent, base, h)
}

func kindWord(dir bool) string {
	if dir {
		return "a directory"
	}
	return "a non-directory"
}

// sameFile says whether a link's target is already the file it would replace: a link to itself must not delete it.
func (u *unpacker) sameFile(st *unix.Stat_t, target string) bool {
	other, err := u.root.Lstat(target)
	return err == nil && other.Ino == st.Ino && other.Dev == st.Dev
}

func (u *unpacker) setDirTimes() error {
	for _, d := range u.dirs {
		sub, err := u.root.SubNoFollow(d.name)
		if err != nil { // replaced by a later entry
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
				continue
			}
			return err
		}
		err = utimes(sub.Fd(), d.ts)
		sub.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
