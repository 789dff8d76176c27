// SPDX-License-Identifier: Apache-2.0

package container

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// PathStat describes a path in a container.
type PathStat struct {
	Name       string
	Size       int64
	Mode       fs.FileMode
	Mtime      time.Time
	LinkTarget string // of a symbolic link, as the container would resolve it; absolute
}

// StatPath stats a path inside the container's root, where symbolic links cannot lead out of. A last element that is a link
// is not followed, unless a slash or "/." comes after it.
func (e *Engine) StatPath(ctx context.Context, ref, name string) (PathStat, error) {
	var out PathStat
	err := e.withFiles(ctx, ref, true, func(root *inroot.Dir, _ record) error {
		flags := unix.O_PATH | unix.O_NOFOLLOW
		if follows(name) {
			flags = unix.O_PATH | unix.O_DIRECTORY
		}
		f, err := root.Open(name, flags, 0)
		if err != nil {
			return pathError(ref, name, err)
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return err
		}
		out = PathStat{Name: path.Base(path.Clean("/" + name)), Size: st.Size(), Mode: st.Mode(), Mtime: st.ModTime()}
		if st.Mode()&fs.ModeSymlink != 0 {
			out.LinkTarget, err = linkTarget(int(f.Fd()), path.Dir(path.Clean("/"+name)))
		}
		return err
	})
	return out, err
}

// follows says whether a path asks for what a link in its last place leads to.
func follows(name string) bool {
	return strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.") || path.Clean("/"+name) == "/"
}

func linkTarget(fd int, dir string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	target := string(buf[:n])
	if !path.IsAbs(target) {
		target = path.Join(dir, target)
	}
	return path.Clean(target), nil
}

// pathError words a missing path as Docker does.
func pathError(ref, name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errs.New(errs.NotFound, "Could not find the file %s in container %s", name, ref)
	case errors.Is(err, unix.ENOTDIR):
		return errs.New(errs.Invalid, "%s in container %s is not a directory", name, ref)
	case errors.Is(err, unix.ELOOP):
		return errs.New(errs.Invalid, "%s in container %s leads through too many or forbidden links", name, ref)
	}
	return err
}

// CopyFrom writes a tar of path, whose one top entry is path's last element; of "path/." the content alone.
func (e *Engine) CopyFrom(ctx context.Context, ref, name string, w io.Writer) error {
	return e.withFiles(ctx, ref, true, func(root *inroot.Dir, _ record) error {
		clean := path.Clean("/" + name)
		if follows(name) {
			return packFolder(ctx, root, ref, name, clean, w)
		}
		parent, base, err := root.Parent(clean)
		if err != nil {
			return pathError(ref, name, err)
		}
		defer parent.Close()
		if _, err := parent.LstatAt(base); err != nil {
			return pathError(ref, name, err)
		}
		others := func(n string) bool { first, _, _ := strings.Cut(n, "/"); return first != base }
		return layer.Pack(ctx, parent, w, layer.PackOptions{Skip: others})
	})
}

// packFolder packs what a path with a slash at its end leads to.
func packFolder(ctx context.Context, root *inroot.Dir, ref, name, clean string, w io.Writer) error {
	dir, err := root.Sub(clean)
	if err != nil {
		return pathError(ref, name, err)
	}
	defer dir.Close()
	prefix := path.Base(clean) + "/"
	if clean == "/" || strings.HasSuffix(name, "/.") {
		prefix = "./"
	}
	var st unix.Stat_t
	if err := unix.Fstat(dir.Fd(), &st); err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	err = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: prefix, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), ModTime: time.Unix(st.Mtim.Sec, 0)})
	if err != nil {
		return err
	}
	if err := tw.Flush(); err != nil { // not Close: Pack writes on, and ends the archive
		return err
	}
	return layer.Pack(ctx, dir, w, layer.PackOptions{Prefix: prefix})
}

// CopyToOptions of CopyTo.
type CopyToOptions struct {
	NoOverwriteDirNonDir bool // a folder does not replace a file, nor a file a folder
	CopyUIDGID           bool // give everything to the container's own user; else the tar's owners are kept
}

// CopyTo unpacks a tar, plain or compressed with gzip, zstd or bzip2, into the existing folder at path.
func (e *Engine) CopyTo(ctx context.Context, ref, name string, r io.Reader, o CopyToOptions) error {
	plain, _, err := layer.Decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	return e.withFiles(ctx, ref, true, func(root *inroot.Dir, rec record) error {
		if rec.Spec.Security.ReadonlyRootfs && !inVolume(rec, name) {
			return errs.New(errs.Denied, "container rootfs is marked read-only")
		}
		dir, err := root.Sub(path.Clean("/" + name))
		if errors.Is(err, unix.ENOTDIR) {
			return errs.New(errs.Invalid, "extraction point is not a directory")
		}
		if err != nil {
			return pathError(ref, name, err)
		}
		defer dir.Close()
		opt := layer.UnpackOptions{KeepKind: o.NoOverwriteDirNonDir}
		if o.CopyUIDGID && rec.Config.User != "" {
			u, _, err := lookupUser(root, rec.Config.User, nil, false)
			if err != nil {
				return err
			}
			opt.Owner = &layer.Owner{UID: int(u.UID), GID: int(u.GID)}
		}
		if _, err := layer.Unpack(ctx, dir, plain, opt); err != nil {
			return fmt.Errorf("copy to %s in container %s: %w", name, ref, err)
		}
		return nil
	})
}

// inVolume says whether a path names something below a mount, where a read-only root does not matter.
func inVolume(rec record, name string) bool {
	clean := path.Clean("/" + name)
	for _, m := range rec.Mounts {
		if !m.ReadOnly && (clean == m.Target || strings.HasPrefix(clean, m.Target+"/")) {
			return true
		}
	}
	return false
}

// Export writes a tar of the container's whole root file system, without what is mounted into it.
func (e *Engine) Export(ctx context.Context, ref string, w io.Writer) error {
	return e.withFiles(ctx, ref, false, func(root *inroot.Dir, _ record) error {
		return layer.Pack(ctx, root, w, layer.PackOptions{})
	})
}
