// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
)

// execution is one running build.
type execution struct {
	b      *Builder
	req    Request
	id     string
	work   string // its own folder
	source *tree  // the context
	graph  Graph
	done   map[int]*stageRun // finished stages
	bases  map[string]image.Image
	step   int             // of graph.Count
	serial int             // of mount points and snapshots
	used   map[string]bool // build arguments some ARG asked for
}

func hostPlatform() string { return "linux/" + runtime.GOARCH }

func (e *execution) close() {
	if e.source != nil {
		e.source.close()
	}
	if err := os.RemoveAll(e.work); err != nil {
		e.b.cfg.Log.Warn("build: cannot remove the work folder", "dir", e.work, "err", err)
	}
}

func (e *execution) run(ctx context.Context) (image.Image, error) {
	var err error
	if e.source, err = e.openContext(ctx); err != nil {
		return image.Image{}, fmt.Errorf("build context: %w", err)
	}
	if e.graph, err = e.compile(); err != nil {
		return image.Image{}, err
	}
	if err := e.source.ignore(e.req.Dockerfile); err != nil {
		return image.Image{}, err
	}
	e.done, e.bases, e.used = map[int]*stageRun{}, map[string]image.Image{}, map[string]bool{}
	var last *stageRun
	for _, i := range e.graph.Needed {
		if last, err = e.stage(ctx, e.graph.Stages[i]); err != nil {
			return image.Image{}, err
		}
		e.done[i] = last
	}
	return e.finish(ctx, last)
}

// finish adds the request's labels, makes the result an image of its own right and names it.
func (e *execution) finish(ctx context.Context, r *stageRun) (image.Image, error) {
	if len(e.req.Labels) > 0 {
		if err := r.labels(ctx, e.req.Labels); err != nil {
			return image.Image{}, err
		}
	}
	if r.img.ID == "" {
		return image.Image{}, errs.New(errs.Invalid, "%s: no image was generated: the Dockerfile is empty beyond FROM scratch", e.graph.File)
	}
	img := r.img
	if img.Cache || len(e.req.Tags) > 0 {
		var err error
		img, err = e.b.cfg.Images.Promote(img.ID, e.req.Tags)
		if err != nil {
			return image.Image{}, err
		}
	}
	if unused := e.unusedArgs(); len(unused) > 0 {
		e.printf("[Warning] One or more build-args %v were not consumed\n", unused)
	}
	e.printf("Successfully built %s\n", shortID(img.ID))
	for _, t := range e.req.Tags {
		n, err := image.ParseName(t)
		if err != nil {
			return image.Image{}, err
		}
		e.printf("Successfully tagged %s\n", image.FamiliarString(n))
	}
	return img, nil
}

func (e *execution) unusedArgs() []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(e.req.Args)) {
		if _, meta := e.graph.MetaArgs[k]; !meta && !e.used[k] && !slices.Contains(predefinedArgs[:], k) {
			out = append(out, k)
		}
	}
	return out
}

func (e *execution) printf(format string, args ...any) {
	fmt.Fprintf(e.req.Progress, format, args...) // a client that went away must not fail the build; ctx tells
}

func shortID(d digest.Digest) string {
	h := strings.TrimPrefix(string(d), "sha256:")
	return h[:min(12, len(h))]
}

// announce prints "Step 2/5 : …".
func (e *execution) announce(text string) {
	e.step++
	e.printf("Step %d/%d : %s\n", e.step, e.graph.Count(), text)
}

// stage runs one stage from its base to its last step.
func (e *execution) stage(ctx context.Context, st Stage) (*stageRun, error) {
	e.announce(st.Text)
	base, err := e.base(ctx, st.Base, st.Platform)
	if err != nil {
		return nil, e.graph.at(st.Step, err)
	}
	r := e.newStageRun(st, base)
	e.printf(" ---> %s\n", shortID(base.ID))
	if err := r.triggers(ctx, st); err != nil {
		return nil, err
	}
	for _, s := range st.Steps {
		e.announce(s.Text)
		if err := r.do(ctx, s); err != nil {
			return nil, e.graph.at(s, err)
		}
		e.printf(" ---> %s\n", shortID(r.img.ID))
	}
	return r, nil
}

// base finds what a FROM or COPY --from names; images that are not here are pulled.
func (e *execution) base(ctx context.Context, b Base, platform string) (image.Image, error) {
	switch {
	case b.Scratch:
		return image.Image{}, nil
	case b.Image == "":
		return e.done[b.Stage].img, nil
	}
	if platform == "" {
		platform = e.req.Platform
	}
	key := b.Image + " " + platform
	if img, ok := e.bases[key]; ok {
		return img, nil
	}
	img, err := e.find(ctx, b.Image, platform)
	if err != nil {
		return image.Image{}, err
	}
	if platform != "" && !strings.HasPrefix(platform+"/", "linux/"+img.Config.Architecture+"/") {
		return image.Image{}, errs.New(errs.Unsupported, "image %s is for %s, not for %s", b.Image, img.Platform(), platform)
	}
	e.bases[key] = img
	return img, nil
}

func (e *execution) find(ctx context.Context, ref, platform string) (image.Image, error) {
	img, err := e.b.cfg.Images.Get(ref)
	if err == nil && (!e.req.Pull || img.Local) {
		return img, nil
	}
	if err != nil && !errors.Is(err, errs.NotFound) {
		return image.Image{}, err
	}
	opt := e.req.PullWith
	opt.Platform = platform
	e.printf("Pulling %s\n", ref)
	pulled, perr := e.b.cfg.Images.Pull(ctx, ref, opt)
	if perr != nil && err != nil {
		return image.Image{}, fmt.Errorf("image %s is not here and cannot be pulled: %w", ref, perr)
	}
	return pulled, perr
}

// triggers runs the base image's ONBUILD instructions.
func (r *stageRun) triggers(ctx context.Context, st Stage) error {
	list := r.img.Config.Config.OnBuild
	if len(list) == 0 {
		return nil
	}
	r.cfg.Config.OnBuild = nil
	r.e.printf("# Executing %d build triggers\n", len(list))
	for _, text := range list {
		cmd, err := parseTrigger(text)
		if err != nil {
			return r.e.graph.at(st.Step, fmt.Errorf("ONBUILD trigger %q of the base image: %w", text, err))
		}
		s := Step{Line: st.Line, EndLine: st.EndLine, Text: text, Cmd: cmd}
		if cp, ok := cmd.(*instructions.CopyCommand); ok && cp.From != "" {
			s.From = &Base{Stage: -1, Image: cp.From}
			for _, other := range r.e.graph.Stages[:st.Index] {
				if strings.EqualFold(other.Name, cp.From) && r.e.done[other.Index] != nil {
					s.From = &Base{Stage: other.Index}
				}
			}
		}
		if err := r.do(ctx, s); err != nil {
			return r.e.graph.at(st.Step, fmt.Errorf("ONBUILD trigger %q of the base image: %w", text, err))
		}
	}
	return nil
}
