// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

func checkAdd(cmd instructions.Command) error {
	c := cmd.(*instructions.AddCommand)
	if c.Checksum != "" && len(c.SourcePaths) != 1 {
		return errs.New(errs.Invalid, "checksum can't be specified for multiple sources")
	}
	return checkDest("ADD", &c.SourcesAndDest)
}

func runAdd(ctx context.Context, r *stageRun, s Step) error {
	c := s.Cmd.(*instructions.AddCommand)
	if err := checkDest("ADD", &c.SourcesAndDest); err != nil {
		return err
	}
	var fetched []*tree
	defer func() {
		for _, t := range fetched {
			t.close()
		}
	}()
	fetch := func(src string) (picked, bool, error) {
		var p picked
		var err error
		switch {
		case isGit(src):
			p, err = r.e.clone(ctx, src, c.KeepGitDir != nil && *c.KeepGitDir, c.Checksum)
		case isURL(src):
			if path.Base(src) == "" || strings.HasSuffix(src, "/") && endsInDir(c.DestPath) {
				return p, false, errs.New(errs.Invalid, "ADD %s: cannot determine a file name; end the destination with one", src)
			}
			var sum digest.Digest
			if sum, err = parseChecksum(c.Checksum); err == nil {
				p, err = r.e.fetch(ctx, "ADD", src, sum)
			}
		default:
			if c.Checksum != "" {
				return p, false, errs.New(errs.Invalid, "ADD --checksum is for URLs and git repositories, not for %s", src)
			}
			return p, false, nil
		}
		if err == nil {
			fetched = append(fetched, p.tree)
		}
		return p, true, err
	}
	cp := copying{name: "ADD", sd: c.SourcesAndDest, chown: c.Chown, chmod: c.Chmod, exclude: c.ExcludePatterns, from: r.e.source, archives: true, unpack: c.Unpack, fetch: fetch}
	return cp.run(ctx, r, s)
}

// addArchive unpacks s below dest if it is a tar in a compression we read; else it answers false. Owners are the archive's
// unless --chown says otherwise.
func (t *tree) addArchive(ctx context.Context, root *inroot.Dir, s source, dest string, chown bool, o ownership) (bool, error) {
	if s.isDir() {
		return false, nil
	}
	ok, err := t.isArchive(s)
	if !ok || err != nil {
		return false, err
	}
	f, err := t.open(s, s.nodes[0])
	if err != nil {
		return false, err
	}
	defer f.Close()
	plain, _, err := layer.Decompress(f)
	if err != nil {
		return false, err
	}
	defer plain.Close()
	if err := makeParents(root, dest, o); err != nil {
		return false, err
	}
	below, err := root.Sub(dest)
	if err != nil {
		return false, err
	}
	defer below.Close()
	opt := layer.UnpackOptions{}
	if chown {
		opt.Owner = &layer.Owner{UID: o.uid, GID: o.gid}
	}
	_, err = layer.Unpack(ctx, below, plain, opt)
	return true, err
}

// isArchive looks at the first header, as Docker does: the name says nothing.
func (t *tree) isArchive(s source) (bool, error) {
	f, err := t.open(s, s.nodes[0])
	if err != nil {
		return false, err
	}
	defer f.Close()
	plain, _, err := layer.Decompress(f)
	if err != nil {
		return false, nil // not what its first bytes say: a file like any other
	}
	defer plain.Close()
	_, err = tar.NewReader(plain).Next()
	return err == nil && !errors.Is(err, io.EOF), nil
}
