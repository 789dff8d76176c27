// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/inroot"
)

// stageMounts mounts, for one run, what its mounts come from: volumes that are no plain folders, and, in the run's own folder,
// parts of volumes and images. Those parts are opened below the volume without following links and mounted by their descriptor, so
// that nobody who shares the volume can put something else in their place. It answers the mounts with their sources.
func (e *Engine) stageMounts(ctx context.Context, c *entry, rec record) ([]MountPoint, error) {
	out := slices.Clone(rec.Mounts)
	for i := range out {
		m := &out[i]
		var err error
		switch {
		case m.Type == "volume":
			if err = e.cfg.Volumes.Mount(ctx, m.Name, c.id); err == nil && m.Subpath != "" {
				err = e.stageVolumePart(c, i, m)
			}
		case m.Type == "image":
			err = e.stageImage(c, i, m)
		}
		if err != nil {
			return nil, fmt.Errorf("mount at %s: %w", m.Target, err)
		}
	}
	return out, nil
}

func (c *entry) staged() string { return filepath.Join(c.run, "mounts") }

// stage makes an empty mount point for mount i.
func (c *entry) stage(i int, dir bool) (string, error) {
	if err := os.MkdirAll(c.staged(), 0o700); err != nil {
		return "", err
	}
	at := filepath.Join(c.staged(), strconv.Itoa(i))
	if dir {
		return at, os.Mkdir(at, 0o700)
	}
	return at, unix.Mknod(at, unix.S_IFREG|0o600, 0)
}

func (e *Engine) stageVolumePart(c *entry, i int, m *MountPoint) error {
	part, err := e.cfg.Volumes.Sub(m.Name, m.Subpath)
	if err != nil {
		return err
	}
	defer part.Close()
	return bindPart(c, i, m, part)
}

func bindPart(c *entry, i int, m *MountPoint, part *os.File) error {
	st, err := part.Stat()
	if err != nil {
		return err
	}
	if m.Source, err = c.stage(i, st.IsDir()); err != nil {
		return err
	}
	return unix.Mount("/proc/self/fd/"+strconv.Itoa(int(part.Fd())), m.Source, "", unix.MS_BIND, "")
}

func (e *Engine) stageImage(c *entry, i int, m *MountPoint) error {
	img, err := e.cfg.Images.Get(m.Name)
	if err != nil {
		return err
	}
	at, err := c.stage(i, true)
	if err != nil {
		return err
	}
	if err := e.cfg.Images.MountReadOnly(img, at); err != nil {
		return err
	}
	if m.Source = at; m.Subpath == "" {
		return nil
	}
	root, err := inroot.Open(at)
	if err != nil {
		return err
	}
	defer root.Close()
	part, err := root.Open(m.Subpath, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer part.Close()
	return bindPart(c, i+len(c.rec.Mounts), m, part)
}

// unstageMounts undoes stageMounts.
func (e *Engine) unstageMounts(c *entry, rec record) error {
	var all []error
	for _, name := range names(c.staged()) {
		at := filepath.Join(c.staged(), name)
		all = append(all, unmount(at), os.Remove(at))
	}
	if exists(c.staged()) {
		all = append(all, os.Remove(c.staged()))
	}
	for _, m := range rec.Mounts {
		if m.Type == "volume" {
			all = append(all, e.cfg.Volumes.Unmount(m.Name, c.id))
		}
	}
	return errors.Join(all...)
}
