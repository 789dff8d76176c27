// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/inroot"
)

// A stack is one directory as overlayfs merges it: the layers' directories that show through, top first. It answers what a
// mount would, without mounting; no symbolic link is followed.
type stack []*inroot.Dir

// openStack opens the roots of layer directories given top first.
func openStack(dirs []string) (stack, error) {
	var st stack
	for _, d := range dirs {
		root, err := inroot.Open(d)
		if err != nil {
			st.close()
			return nil, err
		}
		st = append(st, root)
	}
	return st, nil
}

func (st stack) close() {
	for _, d := range st {
		d.Close()
	}
}

// lookup finds one name: its attributes in the topmost layer that has it, and in which.
func (st stack) lookup(base string) (unix.Stat_t, *inroot.Dir, bool, error) {
	for _, d := range st {
		attr, err := d.LstatAt(base)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return attr, nil, false, err
		}
		return attr, d, !layer.IsWhiteout(&attr), nil
	}
	return unix.Stat_t{}, nil, false, nil
}

// sub is the merged directory base, nil if there is none. The caller closes it.
func (st stack) sub(base string) (stack, error) {
	var out stack
	for _, d := range st {
		attr, err := d.LstatAt(base)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			out.close()
			return nil, err
		}
		if attr.Mode&unix.S_IFMT != unix.S_IFDIR { // a file or a whiteout ends the view downwards
			break
		}
		sub, err := d.SubNoFollow(base)
		if err != nil {
			out.close()
			return nil, err
		}
		out = append(out, sub)
		if layer.IsOpaque(sub) {
			break
		}
	}
	return out, nil
}

// walk opens the directory dir ("" is the root) element by element.
func (st stack) walk(dir string) (stack, error) {
	cur, own := st, false
	for _, e := range strings.FieldsFunc(path.Clean("/"+dir), func(r rune) bool { return r == '/' }) {
		next, err := cur.sub(e)
		if own {
			cur.close()
		}
		if err != nil {
			return nil, err
		}
		if len(next) == 0 {
			return nil, &fs.PathError{Op: "open", Path: dir, Err: unix.ENOENT}
		}
		cur, own = next, true
	}
	if !own {
		return st.dup()
	}
	return cur, nil
}

func (st stack) dup() (stack, error) {
	var out stack
	for _, d := range st {
		c, err := d.Sub(".")
		if err != nil {
			out.close()
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// fsDirs are the layer directories of chainIDs given bottom first, top first as overlayfs wants them.
func (s *Store) fsDirs(chain []digest.Digest) []string {
	dirs := make([]string, 0, len(chain))
	for i := len(chain) - 1; i >= 0; i-- {
		dirs = append(dirs, s.layerFS(chain[i]))
	}
	return dirs
}

// openLower opens a regular file of a chain of layers.
func (s *Store) openLower(chain []digest.Digest, name string) (*os.File, error) {
	st, err := openStack(s.fsDirs(chain))
	if err != nil {
		return nil, err
	}
	defer st.close()
	dir, base, err := inroot.Split(name)
	if err != nil {
		return nil, err
	}
	parent, err := st.walk(dir)
	if err != nil {
		return nil, err
	}
	defer parent.close()
	_, d, ok, err := parent.lookup(base)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: unix.ENOENT}
	}
	return d.Open(base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}
