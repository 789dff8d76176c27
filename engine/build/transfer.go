// SPDX-License-Identifier: Apache-2.0

package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// digestOf hashes sources as far as a copy depends on them: names, types, modes and content, not owners or times.
func (t *tree) digestOf(sources []source) (string, error) {
	h := sha256.New()
	for _, s := range sources {
		fmt.Fprintf(h, "source %q\n", path.Base(s.name))
		for _, n := range s.nodes {
			if err := t.hashNode(h, s, n); err != nil {
				return "", err
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (t *tree) hashNode(h hash.Hash, s source, n node) error {
	fmt.Fprintf(h, "%q %o ", n.rel, n.mode)
	switch n.mode & unix.S_IFMT {
	case unix.S_IFREG:
		f, err := t.open(s, n)
		if err != nil {
			return err
		}
		defer f.Close()
		size, err := io.Copy(h, f)
		fmt.Fprintf(h, " %d\n", size)
		return err
	case unix.S_IFLNK:
		target, err := t.readlink(s, n)
		fmt.Fprintf(h, "%q\n", target)
		return err
	}
	return nil
}

func (t *tree) open(s source, n node) (*os.File, error) {
	flags := unix.O_RDONLY | unix.O_NONBLOCK
	if n.rel != "" {
		flags |= unix.O_NOFOLLOW
	}
	f, err := t.root.Open(path.Join(s.name, n.rel), flags, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s changed while it was read", path.Join(s.name, n.rel)))
	}
	return f, nil
}

func (t *tree) readlink(s source, n node) (string, error) {
	f, err := t.root.Open(path.Join(s.name, n.rel), unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, unix.PathMax)
	k, err := unix.Readlinkat(int(f.Fd()), "", buf)
	return string(buf[:max(k, 0)]), err
}

// ownership is what --chown and --chmod say; the zero value is root and the source's mode.
type ownership struct {
	uid, gid int
	mode     *uint32
}

func (o ownership) modeOf(n node) uint32 {
	if o.mode != nil && n.mode&unix.S_IFMT != unix.S_IFLNK {
		return *o.mode
	}
	return n.mode & 0o7777
}

// copyInto copies sources to dest in root, as COPY does: the content of a directory, a file under its name if dest is a directory.
func (t *tree) copyInto(root *inroot.Dir, sources []source, dest string, intoDir bool, o ownership) error {
	for _, s := range sources {
		target := dest
		if !s.isDir() && (intoDir || isDirIn(root, dest)) {
			target = path.Join(dest, path.Base(s.name))
		}
		if err := t.copyOne(root, s, target, o); err != nil {
			return fmt.Errorf("copy %s: %w", s.name, err)
		}
	}
	return nil
}

func isDirIn(root *inroot.Dir, name string) bool {
	st, err := root.Stat(name)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

func (t *tree) copyOne(root *inroot.Dir, s source, target string, o ownership) error {
	for _, n := range s.nodes {
		full := path.Join(target, n.rel)
		if n.isDir() {
			if err := t.makeDir(root, s, n, full, o); err != nil {
				return err
			}
			continue
		}
		if err := t.copyNode(root, s, n, full, o); err != nil {
			return fmt.Errorf("%s: %w", full, err)
		}
	}
	return nil
}

// makeDir makes one directory and what leads to it; one that is there, also behind a link inside the root, stays as it is.
func (t *tree) makeDir(root *inroot.Dir, s source, n node, full string, o ownership) error {
	if isDirIn(root, full) {
		return nil
	}
	if full == "/" || full == "." {
		return nil
	}
	if err := makeParents(root, path.Dir(full), o); err != nil {
		return err
	}
	d, err := root.MkdirAll(full, o.modeOf(n), func(d *inroot.Dir, _ string) error { return unix.Fchown(d.Fd(), o.uid, o.gid) })
	if err != nil {
		return err
	}
	return d.Close()
}

func makeParents(root *inroot.Dir, dir string, o ownership) error {
	d, err := root.MkdirAll(dir, 0o755, func(d *inroot.Dir, _ string) error { return unix.Fchown(d.Fd(), o.uid, o.gid) })
	if err != nil {
		return err
	}
	return d.Close()
}

func (t *tree) copyNode(root *inroot.Dir, s source, n node, full string, o ownership) error {
	if err := makeParents(root, path.Dir(full), o); err != nil {
		return err
	}
	parent, base, err := root.Parent(full)
	if err != nil {
		return err
	}
	defer parent.Close()
	if st, err := parent.LstatAt(base); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return errs.New(errs.Invalid, "cannot replace a directory by a file")
	}
	if err := parent.RemoveAllAt(base); err != nil { // a link there is replaced, not followed
		return err
	}
	switch n.mode & unix.S_IFMT {
	case unix.S_IFREG:
		return t.copyFile(parent, base, s, n, o)
	case unix.S_IFLNK:
		target, err := t.readlink(s, n)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(target, parent.Fd(), base); err != nil {
			return err
		}
		return unix.Fchownat(parent.Fd(), base, o.uid, o.gid, unix.AT_SYMLINK_NOFOLLOW)
	case unix.S_IFIFO:
		return unix.Mknodat(parent.Fd(), base, unix.S_IFIFO|o.modeOf(n), 0)
	}
	return errs.New(errs.Unsupported, "cannot copy a device or a socket")
}

func (t *tree) copyFile(parent *inroot.Dir, base string, s source, n node, o ownership) error {
	in, err := t.open(s, n)
	if err != nil {
		return err
	}
	defer in.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(in.Fd()), &st); err != nil {
		return err
	}
	out, err := createFile(parent, base)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil { // in the kernel, where the file systems allow it
		return err
	}
	if err := finishFile(out, o.uid, o.gid, o.modeOf(n)); err != nil {
		return err
	}
	if err := layer.CopyXattrs(int(in.Fd()), int(out.Fd())); err != nil {
		return err
	}
	ts := []unix.Timespec{{Sec: st.Mtim.Sec}, {Sec: st.Mtim.Sec}}
	if err := unix.UtimesNanoAt(int(out.Fd()), "", ts, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	return out.Close()
}

func createFile(parent *inroot.Dir, base string) (*os.File, error) {
	fd, err := unix.Openat(parent.Fd(), base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: base, Err: err}
	}
	return os.NewFile(uintptr(fd), base), nil
}

// finishFile sets the owner before the mode: chown clears set-id bits.
func finishFile(f *os.File, uid, gid int, mode uint32) error {
	if err := unix.Fchown(int(f.Fd()), uid, gid); err != nil {
		return err
	}
	return unix.Fchmod(int(f.Fd()), mode)
}
