// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// remoteContext fetches a context: a git repository (or a folder of one), a tar, or a Dockerfile alone.
func (e *execution) remoteContext(ctx context.Context) (*tree, error) {
	src := e.req.Remote
	switch {
	case isGit(src):
		return e.gitContext(ctx, src)
	case !isURL(src):
		return nil, errs.New(errs.Unsupported, "%s: want a git repository or an http or https URL", src)
	}
	p, err := e.fetch(ctx, "context", src, "")
	if err != nil {
		return nil, err
	}
	defer p.close()
	dir := filepath.Join(e.work, "context")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := inroot.Open(dir)
	if err != nil {
		return nil, err
	}
	t := &tree{root: root, what: "build context"}
	if err := e.fillContext(ctx, t, p); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (e *execution) fillContext(ctx context.Context, t *tree, p picked) error {
	packed, err := p.isArchive(p.source)
	if err != nil {
		return err
	}
	f, err := p.open(p.source, p.nodes[0])
	if err != nil {
		return err
	}
	defer f.Close()
	if packed {
		plain, _, err := layer.Decompress(f)
		if err != nil {
			return err
		}
		defer plain.Close()
		_, err = layer.Unpack(ctx, t.root, plain, layer.UnpackOptions{})
		return err
	}
	e.req.Source, err = io.ReadAll(io.LimitReader(f, maxDockerfile+1)) // Compile refuses what is too large
	return err
}

func (e *execution) gitContext(ctx context.Context, src string) (*tree, error) {
	p, err := e.clone(ctx, src, false, "")
	if err != nil {
		return nil, err
	}
	if !p.isDir() {
		p.close()
		return nil, errs.New(errs.Invalid, "%s is not a directory", src)
	}
	root, err := p.root.Sub(p.name)
	p.close()
	if err != nil {
		return nil, err
	}
	return &tree{root: root, what: "build context"}, nil
}
