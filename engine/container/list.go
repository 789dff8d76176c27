// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/internal/errs"
)

// Get finds one container.
func (e *Engine) Get(ref string) (Container, error) {
	c, err := e.find(ref)
	if err != nil {
		return Container{}, err
	}
	return c.view(), nil
}

// List returns all containers in any state, newest first.
func (e *Engine) List() []Container {
	e.mu.RLock()
	all := e.all()
	e.mu.RUnlock()
	out := make([]Container, 0, len(all))
	for _, c := range all {
		out = append(out, c.view())
	}
	slices.SortFunc(out, func(a, b Container) int { return b.Created.Compare(a.Created) })
	return out
}

// ImageUsers names the containers that use an image; image.Store's Remove and Prune ask for it.
func (e *Engine) ImageUsers(id digest.Digest) []string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var out []string
	for _, c := range e.all() {
		if c.record().ImageID == id {
			out = append(out, c.id)
		}
	}
	return out
}

// Rename gives another name.
func (e *Engine) Rename(ctx context.Context, ref, name string) error {
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		return errs.New(errs.Invalid, "Neither old nor new names may be empty")
	}
	if err := checkName(name); err != nil {
		return err
	}
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	rec := c.record()
	old := rec.Spec.Name
	if old == name {
		return errs.New(errs.Invalid, "Renaming a container with the same name as its current name")
	}
	e.mu.Lock()
	if e.containers[c.id] != c {
		err = errs.New(errs.NotFound, "No such container: %s", ref)
	} else {
		err = e.reserve(name, c.id)
	}
	e.mu.Unlock()
	if err != nil {
		return err
	}
	drop := old
	rec.Spec.Name = name
	if err = c.saveRecord(rec); err != nil {
		drop = name
	}
	e.mu.Lock()
	delete(e.names, drop)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	if err := e.cfg.Networks.Rename(ctx, c.id, old, name); err != nil {
		return err
	}
	e.emit(c, "rename", map[string]string{"oldName": "/" + old})
	return nil
}

// saveRecord puts a changed record on disk, then in memory. op is held.
func (c *entry) saveRecord(rec record) error {
	if err := save(c.dir, recordFile, rec, rec.lasting()); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rec = rec
	return nil
}

// Prune removes the stopped containers that keep answers false for (nil: all), and answers their IDs and bytes freed.
func (e *Engine) Prune(ctx context.Context, keep func(Container) bool) ([]string, int64, error) {
	var gone []string
	var freed int64
	for _, c := range e.List() {
		idle := c.State == Created || c.State == Exited || c.State == Dead
		if !idle || c.Spec.Sandbox != "" || keep != nil && keep(c) {
			continue
		}
		size, _, err := e.RWUsage(c.ID)
		if err != nil {
			size = 0
		}
		switch err := e.Remove(ctx, c.ID, RemoveOptions{}); {
		case err == nil:
			gone, freed = append(gone, c.ID), freed+size
		case ctx.Err() != nil:
			return gone, freed, err
		default: // started or removed by somebody else meanwhile
			e.log.Debug("prune", "container", c.ID, "err", err)
		}
	}
	return gone, freed, nil
}

// RWUsage answers the bytes and inodes of the container's read-write layer.
func (e *Engine) RWUsage(ref string) (bytes, inodes int64, err error) {
	c, err := e.find(ref)
	if err != nil {
		return 0, 0, err
	}
	return e.cfg.Images.SnapshotUsage(c.key())
}

// Size answers the bytes of the container's read-write layer, and of its whole root file system.
func (e *Engine) Size(ref string) (rw, root int64, err error) {
	rw, _, err = e.RWUsage(ref)
	if err != nil {
		return 0, 0, err
	}
	c, err := e.find(ref)
	if err != nil {
		return 0, 0, err
	}
	root = rw
	if img, err := e.cfg.Images.Get(string(c.record().ImageID)); err == nil { // a removed image's size is not known
		root += img.Size
	}
	return rw, root, nil
}
