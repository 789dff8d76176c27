// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/inroot"
)

// Changes lists what the container changed against image and init layer, sorted by path. A directory that was only
// copied up because something in it changed is listed as modified, as Docker does.
func (s *Store) Changes(key string) ([]Change, error) {
	rec, err := s.findSnapshot(key)
	if err != nil {
		return nil, err
	}
	snap := s.snapshot(rec)
	lower, err := openStack(snap.Lower)
	if err != nil {
		return nil, err
	}
	defer lower.close()
	rw, err := inroot.Open(snap.RW)
	if err != nil {
		return nil, err
	}
	defer rw.Close()
	var out []Change
	if err := changesIn(rw, lower, "/", &out); err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// changesIn compares one upper directory with what the layers below show under the same path.
func changesIn(up *inroot.Dir, lower stack, at string, out *[]Change) error {
	names, err := layer.ReadNames(up)
	if err != nil {
		return err
	}
	if layer.IsOpaque(up) {
		if err := hiddenBy(names, lower, at, out); err != nil {
			return err
		}
	}
	for _, n := range names {
		st, err := up.LstatAt(n)
		if errors.Is(err, unix.ENOENT) { // the container runs on
			continue
		}
		if err != nil {
			return err
		}
		_, _, was, err := lower.lookup(n)
		if err != nil {
			return err
		}
		full := filepath.Join(at, n)
		switch {
		case layer.IsWhiteout(&st) && was:
			*out = append(*out, Change{full, Deleted})
		case layer.IsWhiteout(&st):
		case was:
			*out = append(*out, Change{full, Modified})
		default:
			*out = append(*out, Change{full, Added})
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := changesBelow(up, lower, n, full, out); err != nil {
				return err
			}
		}
	}
	return nil
}

func changesBelow(up *inroot.Dir, lower stack, n, full string, out *[]Change) error {
	sub, err := up.SubNoFollow(n)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer sub.Close()
	below, err := lower.sub(n)
	if err != nil {
		return err
	}
	defer below.close()
	return changesIn(sub, below, full, out)
}

// hiddenBy lists what an opaque directory has removed: the names below that it does not have itself.
func hiddenBy(own []string, lower stack, at string, out *[]Change) error {
	seen := map[string]bool{}
	for _, d := range lower {
		names, err := layer.ReadNames(d)
		if err != nil {
			return err
		}
		for _, n := range names {
			if seen[n] || slices.Contains(own, n) {
				continue
			}
			seen[n] = true
			if _, _, was, err := lower.lookup(n); err != nil {
				return err
			} else if was {
				*out = append(*out, Change{filepath.Join(at, n), Deleted})
			}
		}
	}
	return nil
}

// regularBytes sums the sizes of regular files, hard links once.
func regularBytes(root string) (int64, error) {
	var sum int64
	seen := map[[2]uint64]bool{}
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		id := [2]uint64{st.Dev, st.Ino}
		if st.Mode&unix.S_IFMT != unix.S_IFREG || seen[id] {
			return nil
		}
		seen[id] = st.Nlink > 1
		sum += st.Size
		return nil
	})
	return sum, err
}
