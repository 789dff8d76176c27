// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

func checkAdd(cmd instructions.Command) error {
	c := cmd.(*instructions.AddCommand)
	if len(c.ExcludePatterns) > 0 {
		return errs.New(errs.Unsupported, "ADD --exclude is not supported; use .dockerignore")
	}
	if c.Checksum != "" {
		return errs.New(errs.Unsupported, "ADD --checksum is for remote sources, which are not supported")
	}
	for _, p := range c.SourcePaths {
		if err := checkLocal(p); err != nil {
			return err
		}
	}
	return checkDest("ADD", &c.SourcesAndDest)
}

// checkLocal refuses what the daemon would have to fetch with its own address and rights.
func checkLocal(src string) error {
	for _, prefix := range []string{"http://", "https://", "git://", "git@", "ssh://", "ftp://"} {
		if strings.HasPrefix(src, prefix) {
			return errs.New(errs.Unsupported, "ADD %s: remote sources are not supported; put the file into the build context, or fetch it in a RUN", src)
		}
	}
	return nil
}

func runAdd(ctx context.Context, r *stageRun, s Step) error {
	c := s.Cmd.(*instructions.AddCommand)
	for _, p := range c.SourcePaths { // again: a variable may have held the URL
		if err := checkLocal(p); err != nil {
			return err
		}
	}
	if err := checkDest("ADD", &c.SourcesAndDest); err != nil {
		return err
	}
	cp := copying{name: "ADD", sd: c.SourcesAndDest, chown: c.Chown, chmod: c.Chmod, from: r.e.source, archives: c.Unpack == nil || *c.Unpack}
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
