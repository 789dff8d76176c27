// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// tree is where files are copied from: the context, a stage, an image. All of it may be hostile: every name is resolved
// below root by the kernel, links included.
type tree struct {
	root    *inroot.Dir
	exclude *patternmatcher.PatternMatcher // nil: nothing
	what    string                         // for messages: "build context"
	release func()
}

func (t *tree) close() {
	t.root.Close()
	if t.release != nil {
		t.release()
	}
}

// openContext makes the request's context a tree. A tar is unpacked first: steps read it in any order.
func (e *execution) openContext(ctx context.Context) (*tree, error) {
	if e.req.Remote != "" {
		return e.remoteContext(ctx)
	}
	dir := e.req.ContextDir
	if e.req.Context != nil || dir == "" {
		dir = filepath.Join(e.work, "context")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		return nil, errs.New(errs.Invalid, "%s is not a directory", dir)
	}
	dir, err := filepath.EvalSymlinks(dir) // the user's own path; what is below it is not trusted
	if err != nil {
		return nil, err
	}
	root, err := inroot.Open(dir)
	if err != nil {
		return nil, err
	}
	t := &tree{root: root, what: "build context"}
	if e.req.Context != nil {
		if err := unpackContext(ctx, root, e.req.Context); err != nil {
			t.close()
			return nil, err
		}
	}
	return t, nil
}

func unpackContext(ctx context.Context, root *inroot.Dir, r io.Reader) error {
	plain, _, err := layer.Decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	if _, err := layer.Unpack(ctx, root, plain, layer.UnpackOptions{}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(r, 1<<20)) // a sender waits until its padding is taken
	return err
}

func (t *tree) readFile(name string, limit int64) ([]byte, error) {
	f, err := t.root.Open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, errors.Join(err, errs.New(errs.Invalid, "%s is not a regular file", name))
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = errs.New(errs.TooLarge, "%s is larger than %d bytes", name, limit)
	}
	return data, err
}

// ignore reads <Dockerfile>.dockerignore or .dockerignore.
func (t *tree) ignore(dockerfile string) error {
	for _, name := range []string{dockerfile + ".dockerignore", ".dockerignore"} {
		data, err := t.readFile(name, 1<<20)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		patterns, err := ignorefile.ReadAll(bytes.NewReader(data))
		if err != nil {
			return errs.New(errs.Invalid, "%s: %w", name, err)
		}
		if t.exclude, err = patternmatcher.New(patterns); err != nil {
			return errs.New(errs.Invalid, "%s: %w", name, err)
		}
		return nil
	}
	return nil
}

// source is one thing that a COPY names, with all that is below it.
type source struct {
	name  string // in the tree, relative, links resolved only where they lead the way
	nodes []node // itself first, with rel "", then its content, parents before children

	skipped bool // .dockerignore takes out something below it
}

// node is one file of a source.
type node struct {
	rel  string // below the source
	mode uint32 // st_mode
	size int64
}

func (n node) isDir() bool { return n.mode&unix.S_IFMT == unix.S_IFDIR }

func (s source) isDir() bool { return s.nodes[0].isDir() }

func (t *tree) notFound(pattern string) error {
	excluded := ""
	if t.exclude != nil {
		excluded = " or excluded by .dockerignore"
	}
	return errs.New(errs.NotFound, "%s: not found in the %s%s", pattern, t.what, excluded)
}

// find resolves one source pattern to what it matches, sorted. Nothing is an error.
func (t *tree) find(pattern string, star bool) ([]source, error) {
	names, err := t.glob(pattern, star)
	if err != nil {
		return nil, err
	}
	var out []source
	for _, n := range names {
		src, ok, err := t.collect(n)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, src)
		}
	}
	if len(out) == 0 {
		return nil, t.notFound(pattern)
	}
	return out, nil
}

func hasMeta(s string) bool { return strings.ContainsAny(s, `*?[\`) }

// glob expands *, ? and [] element by element, and with star also **; ".." stops at the root.
func (t *tree) glob(pattern string, star bool) ([]string, error) {
	clean := strings.TrimPrefix(path.Clean("/"+pattern), "/")
	if clean == "" {
		return []string{""}, nil
	}
	found := []string{""}
	for _, elem := range strings.Split(clean, "/") {
		var next []string
		for _, dir := range found {
			if star && elem == "**" {
				below, err := t.globStar(dir)
				if err != nil {
					return nil, err
				}
				next = append(next, below...)
				continue
			}
			if !hasMeta(elem) {
				next = append(next, path.Join(dir, elem))
				continue
			}
			names, err := t.matchIn(dir, elem)
			if err != nil {
				return nil, err
			}
			next = append(next, names...)
		}
		found = next
	}
	return slices.Compact(slices.Sorted(slices.Values(found))), nil
}

func (t *tree) matchIn(dir, elem string) ([]string, error) {
	if _, err := path.Match(elem, ""); err != nil {
		return nil, errs.New(errs.Invalid, "bad pattern %q", elem)
	}
	d, err := t.root.Sub(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := layer.ReadNames(d)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range names {
		if ok, _ := path.Match(elem, n); ok { // the pattern was checked above
			out = append(out, path.Join(dir, n))
		}
	}
	return out, nil
}

// collect lists a source and its content. A source that is itself a link stands for what it leads to, inside the tree.
func (t *tree) collect(name string) (source, bool, error) {
	src := source{name: name}
	st, err := t.root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return src, false, nil
	}
	if err != nil {
		return src, false, err
	}
	self := node{mode: st.Mode, size: st.Size}
	out, info, err := t.excluded(name, nil)
	if err != nil {
		return src, false, err
	}
	if !self.isDir() {
		src.nodes = []node{self}
		return src, !out, nil
	}
	d, err := t.root.Sub(name)
	if err != nil {
		return src, false, err
	}
	defer d.Close()
	below, err := t.list(d, name, "", info, &src.skipped)
	if err != nil {
		return src, false, err
	}
	src.nodes = append([]node{self}, below...)
	return src, !out || len(below) > 0, nil
}

// excluded asks .dockerignore. parent is the answer for the directory, nil to ask for the whole path.
func (t *tree) excluded(name string, parent *patternmatcher.MatchInfo) (bool, *patternmatcher.MatchInfo, error) {
	if t.exclude == nil || name == "" {
		return false, &patternmatcher.MatchInfo{}, nil
	}
	info := patternmatcher.MatchInfo{}
	if parent == nil {
		if dir := path.Dir(name); dir != "." {
			_, up, err := t.excluded(dir, nil)
			if err != nil {
				return false, nil, err
			}
			parent = up
		} else {
			parent = &patternmatcher.MatchInfo{}
		}
	}
	out, info, err := t.exclude.MatchesUsingParentResults(name, *parent)
	return out, &info, err
}

// list walks a directory. An excluded directory appears only if something in it is included again.
func (t *tree) list(d *inroot.Dir, name, rel string, info *patternmatcher.MatchInfo, skipped *bool) ([]node, error) {
	names, err := layer.ReadNames(d)
	if err != nil {
		return nil, err
	}
	var out []node
	for _, n := range names {
		st, err := d.LstatAt(n)
		if err != nil {
			return nil, err
		}
		full, sub := path.Join(name, n), path.Join(rel, n)
		skip, childInfo, err := t.excluded(full, info)
		if err != nil {
			return nil, err
		}
		*skipped = *skipped || skip
		self := node{rel: sub, mode: st.Mode, size: st.Size}
		if !self.isDir() {
			if !skip {
				out = append(out, self)
			}
			continue
		}
		if skip && !t.exclude.Exclusions() {
			continue
		}
		below, err := t.listBelow(d, n, full, sub, childInfo, skipped)
		if err != nil {
			return nil, err
		}
		if !skip || len(below) > 0 {
			out = append(append(out, self), below...)
		}
	}
	return out, nil
}

func (t *tree) listBelow(d *inroot.Dir, n, full, rel string, info *patternmatcher.MatchInfo, skipped *bool) ([]node, error) {
	sub, err := d.SubNoFollow(n)
	if err != nil {
		return nil, err
	}
	defer sub.Close()
	return t.list(sub, full, rel, info, skipped)
}
