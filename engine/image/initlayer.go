// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/inroot"
)

// initEntry is one thing the init layer may hold.
type initEntry struct {
	name    string // relative
	dir     bool
	link    string // a symbolic link to this
	content []byte // of a file; nil leaves what the image has
}

// initEntries are Docker's stubs: mount points that a container's start needs, in a layer that is never committed.
func initEntries(f InitFiles) []initEntry {
	list := []initEntry{
		{name: "dev", dir: true}, {name: "dev/pts", dir: true}, {name: "dev/shm", dir: true}, {name: "dev/console"},
		{name: "proc", dir: true}, {name: "sys", dir: true}, {name: "etc", dir: true},
		{name: "etc/hosts", content: f.Hosts}, {name: "etc/resolv.conf", content: f.ResolvConf},
		{name: "etc/hostname", content: f.Hostname}, {name: "etc/mtab", link: "/proc/mounts"}, {name: ".dockerenv"},
	}
	for _, d := range f.Dirs {
		list = append(list, initEntry{name: relative(d), dir: true})
	}
	for _, n := range f.Files {
		list = append(list, initEntry{name: relative(n)})
	}
	return list
}

func relative(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// writeInit fills the init layer over chain and answers the files whose changes do not belong into a commit.
func (s *Store) writeInit(dir string, chain []digest.Digest, f InitFiles) ([]string, error) {
	lower, err := openStack(s.fsDirs(chain))
	if err != nil {
		return nil, err
	}
	defer lower.close()
	top, err := inroot.Open(dir)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	for _, e := range initEntries(f) {
		if e.name == "" {
			continue
		}
		if err := placeInit(top, lower, e); err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return []string{".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf"}, nil
}

// placeInit makes one entry unless the image has it. Where the image has a link or a file on the way the entry is left out:
// what lies behind it is for the container's start to resolve, inside the mounted root.
func placeInit(top *inroot.Dir, lower stack, e initEntry) error {
	dir, base := path.Split(e.name)
	parent, below, ok, err := initParent(top, lower, dir)
	if err != nil || !ok {
		return err
	}
	defer parent.Close()
	defer below.close()
	st, _, found, err := below.lookup(base)
	if err != nil {
		return err
	}
	regular := st.Mode&unix.S_IFMT == unix.S_IFREG
	if found && (e.content == nil || !regular) {
		return nil
	}
	if _, err := parent.LstatAt(base); err == nil {
		return nil // listed twice
	}
	return makeInit(parent, base, e)
}

func makeInit(parent *inroot.Dir, base string, e initEntry) error {
	switch {
	case e.dir:
		if err := unix.Mkdirat(parent.Fd(), base, 0o755); err != nil {
			return err
		}
		return unix.Fchmodat(parent.Fd(), base, 0o755, 0)
	case e.link != "":
		return unix.Symlinkat(e.link, parent.Fd(), base)
	}
	fd, err := unix.Openat(parent.Fd(), base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	_, err = f.Write(e.content)
	return err
}

// initParent opens dir in the init layer and in the image. Directories it makes get the attributes of the image's, which
// they will hide. ok is false if something else than a directory is in the way.
func initParent(top *inroot.Dir, lower stack, dir string) (*inroot.Dir, stack, bool, error) {
	cur, err := top.Sub(".")
	if err != nil {
		return nil, nil, false, err
	}
	below, err := lower.dup()
	if err != nil {
		cur.Close()
		return nil, nil, false, err
	}
	for _, e := range strings.FieldsFunc(dir, func(r rune) bool { return r == '/' }) {
		nextBelow, ok, err := stepInit(cur, below, e)
		below.close()
		below = nextBelow
		if err != nil || !ok {
			cur.Close()
			below.close()
			return nil, nil, false, err
		}
		next, err := cur.SubNoFollow(e)
		cur.Close()
		if err != nil {
			below.close()
			return nil, nil, false, err
		}
		cur = next
	}
	return cur, below, true, nil
}

func stepInit(cur *inroot.Dir, below stack, e string) (stack, bool, error) {
	st, _, found, err := below.lookup(e)
	if err != nil {
		return nil, false, err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if found && !isDir {
		return nil, false, nil
	}
	if own, err := cur.LstatAt(e); err == nil {
		if own.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil, false, nil
		}
	} else if err := mkdirLike(cur, e, st, found); err != nil {
		return nil, false, err
	}
	next, err := below.sub(e)
	return next, err == nil, err
}

func mkdirLike(cur *inroot.Dir, e string, like unix.Stat_t, found bool) error {
	if !found {
		like = unix.Stat_t{Mode: 0o755}
	}
	if err := unix.Mkdirat(cur.Fd(), e, 0o700); err != nil {
		return err
	}
	if err := unix.Fchownat(cur.Fd(), e, int(like.Uid), int(like.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.Fchmodat(cur.Fd(), e, like.Mode&0o7777, 0)
}

// initSkip leaves the init layer's files out of a commit.
func initSkip(rec *snapshotRecord) func(string) bool {
	return func(name string) bool { return slices.Contains(rec.Init, name) }
}
