// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// picked is one source of a COPY or ADD and where it is read from.
type picked struct {
	*tree
	source
	below  string // --parents: the folder below the destination, relative
	remote bool   // an ADD of a URL: not unpacked of itself
}

// pick finds a pattern's files in t. With parents, what leads to a file (after "/./", if that is in the pattern) is kept.
func (c copying) pick(t *tree, pattern string) ([]picked, error) {
	pivot := 0
	if before, _, ok := strings.Cut(pattern, "/./"); ok && c.parents {
		if hasMeta(before) {
			return nil, errs.New(errs.Unsupported, "%s --parents: a pattern before /./ is not supported", c.name)
		}
		pivot = len(strings.TrimPrefix(path.Clean("/"+before), "/"))
	}
	found, err := t.find(pattern, c.parents)
	if err != nil {
		return nil, err
	}
	var out []picked
	for _, s := range found {
		if s, err = c.leaveOut(s); err != nil {
			return nil, err
		}
		if len(s.nodes) == 0 {
			continue
		}
		p := picked{tree: t, source: s}
		if c.parents {
			p.below = strings.TrimPrefix(s.name[pivot:], "/")
			if !s.isDir() {
				p.below = path.Dir(p.below)
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// leaveOut applies --exclude: patterns below a folder, or on the name of a single file.
func (c copying) leaveOut(s source) (source, error) {
	if len(c.exclude) == 0 {
		return s, nil
	}
	m, err := patternmatcher.New(c.exclude)
	if err != nil {
		return s, errs.New(errs.Invalid, "%s --exclude: %w", c.name, err)
	}
	var keep []node
	for _, n := range s.nodes {
		rel := n.rel
		if rel == "" && !s.isDir() {
			rel = path.Base(s.name)
		}
		out := false
		if rel != "" {
			if out, err = m.MatchesOrParentMatches(rel); err != nil {
				return s, errs.New(errs.Invalid, "%s --exclude: %w", c.name, err)
			}
		}
		if !out {
			keep = append(keep, n)
		}
	}
	s.nodes = keep
	return s, nil
}

// globStar lists a folder and all folders below it: what "**" stands for.
func (t *tree) globStar(dir string) ([]string, error) {
	d, err := t.root.Sub(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return foldersBelow(d, dir)
}

func foldersBelow(d *inroot.Dir, name string) ([]string, error) {
	names, err := layer.ReadNames(d)
	if err != nil {
		return nil, err
	}
	out := []string{name}
	for _, n := range names {
		st, err := d.LstatAt(n)
		if err != nil {
			return nil, err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		sub, err := d.SubNoFollow(n)
		if err != nil {
			return nil, err
		}
		more, err := foldersBelow(sub, path.Join(name, n))
		sub.Close()
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}
