// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"strings"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
)

// Diff lists what the container changed against its image.
func (e *Engine) Diff(ref string) ([]image.Change, error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	return e.cfg.Images.Changes(c.key())
}

// CommitOptions of Commit.
type CommitOptions struct {
	Name            string // "" for none
	Author, Message string
	Config          *image.ContainerConfig // nil: the container's merged one
	NoPause         bool
}

// Commit makes an image of the container.
func (e *Engine) Commit(ctx context.Context, ref string, o CommitOptions) (image.Image, error) {
	c, err := e.find(ref)
	if err != nil {
		return image.Image{}, err
	}
	c.op.Lock()
	defer c.op.Unlock()
	if st := c.status().State; st == Removing || st == Dead {
		return image.Image{}, errs.New(errs.Conflict, "You cannot commit container %s which is %s", c.id, st)
	}
	rec := c.record()
	config := o.Config
	if config == nil {
		config = &rec.Config
	}
	if client := c.live(); client != nil && c.status().State == Running && !o.NoPause {
		if err := client.Pause(ctx); err != nil {
			return image.Image{}, err
		}
		defer func() {
			if err := client.Resume(context.WithoutCancel(ctx)); err != nil {
				e.log.Error("resume after commit", "container", c.id, "err", err)
			}
		}()
	}
	img, err := e.cfg.Images.CommitSnapshot(ctx, c.key(), image.CommitOptions{Config: config, Author: o.Author, Message: o.Message,
		CreatedBy: strings.Join(rec.Args, " "), Name: o.Name})
	if err != nil {
		return image.Image{}, err
	}
	e.emit(c, "commit", map[string]string{"comment": o.Message, "imageID": string(img.ID)})
	return img, nil
}

// Layers answers where the container's root file system lies on the host.
func (e *Engine) Layers(ref string) (image.Snapshot, error) {
	c, err := e.find(ref)
	if err != nil {
		return image.Snapshot{}, err
	}
	return e.cfg.Images.Snapshot(c.key())
}
