// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"slices"
	"strings"

	"github.com/docker/go-connections/nat"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// runWorkdir makes the directory, inside the root file system wherever links lead, and makes it the place of what follows.
func runWorkdir(ctx context.Context, r *stageRun, s Step) error {
	dir := r.path(s.Cmd.(*instructions.WorkdirCommand).Path)
	r.cfg.Config.WorkingDir = dir
	key := r.key("WORKDIR", dir)
	return r.filesystem(ctx, key, "WORKDIR "+dir, image.InitFiles{None: true}, func(_, rootDir string) error {
		root, err := inroot.Open(rootDir)
		if err != nil {
			return err
		}
		defer root.Close()
		return makeParents(root, dir, ownership{})
	})
}

func runVolume(ctx context.Context, r *stageRun, s Step) error {
	if r.cfg.Config.Volumes == nil {
		r.cfg.Config.Volumes = map[string]struct{}{}
	}
	list := s.Cmd.(*instructions.VolumeCommand).Volumes
	for _, v := range list {
		v = strings.TrimSpace(v)
		if v == "" {
			return errs.New(errs.Invalid, "VOLUME specified can not be an empty string")
		}
		if strings.Contains(v, "\x00") || slices.Contains(strings.Split(v, "/"), "..") {
			return errs.New(errs.Invalid, "VOLUME %q: a path without .. is wanted", v)
		}
		r.cfg.Config.Volumes[r.path(v)] = struct{}{}
	}
	return r.metadata(ctx, "VOLUME "+jsonWords(list))
}

func runExpose(ctx context.Context, r *stageRun, s Step) error {
	if r.cfg.Config.ExposedPorts == nil {
		r.cfg.Config.ExposedPorts = map[string]struct{}{}
	}
	var words []string
	for _, p := range s.Cmd.(*instructions.ExposeCommand).Ports {
		expanded, err := r.lex.ProcessWords(p, envGetter(r.env()))
		if err != nil {
			return err
		}
		words = append(words, expanded...)
	}
	slices.Sort(words)
	ports, _, err := nat.ParsePortSpecs(words)
	if err != nil {
		return errs.New(errs.Invalid, "EXPOSE: %w", err)
	}
	for p := range ports {
		r.cfg.Config.ExposedPorts[string(p)] = struct{}{}
	}
	return r.metadata(ctx, "EXPOSE "+strings.Join(words, " "))
}
