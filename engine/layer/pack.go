// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/inroot"
)

// PackOptions of Pack.
type PackOptions struct {
	// Whiteouts writes overlayfs' removed names and opaque directories in OCI's form. Otherwise they are plain entries.
	Whiteouts bool
	// Skip, if not nil, leaves out a name (relative, no leading slash) and what is below it.
	Skip func(name string) bool
	// Prefix is put before every name; "" for none.
	Prefix string
}

type inode struct{ dev, ino uint64 }

type packer struct {
	ctx   context.Context
	tw    *tar.Writer
	opt   PackOptions
	first map[inode]string // the name a hard-linked file was written under
	buf   []byte
}

// Pack writes the tree below root as a tar: names sorted, no user names, times in whole seconds. The root itself is not an
// entry. A file that shrinks while it is read is padded with zeros, one that grows is cut at its first size.
func Pack(ctx context.Context, root *inroot.Dir, w io.Writer, opt PackOptions) error {
	p := &packer{ctx: ctx, tw: tar.NewWriter(w), opt: opt, first: map[inode]string{}, buf: make([]byte, 256<<10)}
	if err := p.dir(root, ""); err != nil {
		return err
	}
	return p.tw.Close()
}

func (p *packer) dir(d *inroot.Dir, name string) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	names, err := ReadNames(d)
	if err != nil {
		return err
	}
	if p.opt.Whiteouts && IsOpaque(d) {
		if err := p.marker(path.Join(name, opaqueMarker)); err != nil {
			return err
		}
	}
	for _, base := range names {
		full := path.Join(name, base)
		if p.opt.Skip != nil && p.opt.Skip(full) {
			continue
		}
		if err := p.entry(d, base, full); err != nil {
			return fmt.Errorf("pack %s: %w", full, err)
		}
	}
	return nil
}

// ReadNames lists a directory, sorted by byte.
func ReadNames(d *inroot.Dir) ([]string, error) {
	f, err := d.Open(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// IsOpaque says whether an overlay directory hides the ones below it.
func IsOpaque(d *inroot.Dir) bool {
	var v [2]byte
	n, err := unix.Fgetxattr(d.Fd(), opaqueXattr, v[:])
	return err == nil && n == 1 && v[0] == 'y'
}

// IsWhiteout says whether an overlay entry stands for a removed name.
func IsWhiteout(st *unix.Stat_t) bool { return isWhiteout(st) }

func (p *packer) marker(name string) error {
	return p.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: p.opt.Prefix + name, Mode: 0o600, ModTime: time.Unix(0, 0)})
}

func (p *packer) entry(d *inroot.Dir, base, full string) error {
	st, err := d.LstatAt(base)
	if err != nil {
		return err
	}
	if p.opt.Whiteouts && isWhiteout(&st) {
		return p.marker(path.Join(path.Dir(full), whiteoutPrefix+base))
	}
	h := &tar.Header{Name: p.opt.Prefix + full, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), ModTime: time.Unix(st.Mtim.Sec, 0)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return p.directory(d, base, full, h)
	case unix.S_IFREG:
		return p.regular(d, base, full, h, &st)
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = readlinkAt(d, base); err != nil {
			return err
		}
		return p.linked(full, h, &st)
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default: // a socket means nothing once its process is gone
		return nil
	}
	h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	return p.linked(full, h, &st)
}

func (p *packer) directory(d *inroot.Dir, base, full string, h *tar.Header) error {
	sub, err := d.SubNoFollow(base)
	if err != nil {
		return err
	}
	defer sub.Close()
	h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	if h.PAXRecords, err = readXattrs(sub.Fd()); err != nil {
		return err
	}
	if err := p.tw.WriteHeader(h); err != nil {
		return err
	}
	return p.dir(sub, full)
}

// linked writes an entry without content, or a hard link if its file was written before.
func (p *packer) linked(full string, h *tar.Header, st *unix.Stat_t) error {
	if p.again(full, h, st) {
		h.Devmajor, h.Devminor = 0, 0
	}
	return p.tw.WriteHeader(h)
}

func (p *packer) again(full string, h *tar.Header, st *unix.Stat_t) bool {
	if st.Nlink < 2 {
		return false
	}
	key := inode{st.Dev, st.Ino}
	if first, ok := p.first[key]; ok {
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, p.opt.Prefix+first, 0
		return true
	}
	p.first[key] = full
	return false
}

func (p *packer) regular(d *inroot.Dir, base, full string, h *tar.Header, st *unix.Stat_t) error {
	h.Typeflag, h.Size = tar.TypeReg, st.Size
	if p.again(full, h, st) {
		return p.tw.WriteHeader(h)
	}
	// O_NONBLOCK: should a live container swap it for a fifo, opening must not wait.
	fd, err := unix.Openat(d.Fd(), base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), full)
	defer f.Close()
	if h.PAXRecords, err = readXattrs(fd); err != nil {
		return err
	}
	if err := p.tw.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{p.tw}, struct{ io.Reader }{io.LimitReader(f, st.Size)}, p.buf)
	if err != nil {
		return err
	}
	return zeros(p.tw, st.Size-n)
}

func zeros(w io.Writer, n int64) error {
	block := make([]byte, min(n, 64<<10))
	for ; n > 0; n -= int64(len(block)) {
		if _, err := w.Write(block[:min(n, int64(len(block)))]); err != nil {
			return err
		}
	}
	return nil
}

func readlinkAt(d *inroot.Dir, base string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(d.Fd(), base, buf)
	return string(buf[:max(n, 0)]), err
}

// readXattrs reads the attributes a layer may carry as PAX records; nil if there are none.
func readXattrs(fd int) (map[string]string, error) {
	var list [4096]byte
	buf := list[:]
	n, err := unix.Flistxattr(fd, buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, 64<<10) // the kernel's bound
		n, err = unix.Flistxattr(fd, buf)
	}
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list attributes: %w", err)
	}
	var recs map[string]string
	for _, name := range strings.Split(string(buf[:n]), "\x00") {
		if !keepXattr(name) {
			continue
		}
		v := make([]byte, 64<<10)
		m, err := unix.Fgetxattr(fd, name, v)
		if err != nil {
			return nil, fmt.Errorf("read attribute %s: %w", name, err)
		}
		if recs == nil {
			recs = map[string]string{}
		}
		recs[paxXattr+name] = string(v[:m])
	}
	return recs, nil
}

// CopyXattrs copies the attributes a layer may carry from one open file to another.
func CopyXattrs(from, to int) error {
	recs, err := readXattrs(from)
	if err != nil {
		return err
	}
	for k, v := range recs {
		name := strings.TrimPrefix(k, paxXattr)
		if err := unix.Fsetxattr(to, name, []byte(v), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	return nil
}
