// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/inroot"
)

// Export writes an image's file system as a tar.
func (b *Builder) Export(ctx context.Context, img image.Image, w io.Writer) (err error) {
	parent := filepath.Join(b.cfg.Dir, workDir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	work, err := os.MkdirTemp(parent, "export-")
	if err != nil {
		return err
	}
	dir := filepath.Join(work, "mnt-1")
	defer func() {
		if uerr := b.cfg.Images.Unmount(dir); uerr != nil {
			err = errors.Join(err, uerr) // the folder stays for Recover
			return
		}
		os.RemoveAll(work)
	}()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := b.cfg.Images.MountReadOnly(img, dir); err != nil {
		return err
	}
	root, err := inroot.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return layer.Pack(ctx, root, w, layer.PackOptions{})
}
