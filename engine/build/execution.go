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
	"sync"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
)

// execution is one running build. Its stages run at once, each as soon as what it needs is there.
type execution struct {
	b      *Builder
	req    Request
	id     string
	work   string // its own folder
	source *tree  // the context
	graph  Graph
	text   *text
	epoch  *time.Time      // SOURCE_DATE_EPOCH, nil for none
	group  *errgroup.Group // the stages

	watching sync.Mutex // one Watch at a time

	mu      sync.Mutex // guards what follows
	stages  map[int]*pending
	bases   map[string]image.Image
	serial  int             // of mount points and snapshots
	used    map[string]bool // build arguments some ARG asked for
	secrets string          // the folder that holds them in memory, "" before the first
}

// pending is a stage that was begun.
type pending struct {
	ready chan struct{} // closed when run and err are set
	run   *stageRun
	err   error
}

func hostPlatform() string { return "linux/" + runtime.GOARCH }

func (e *execution) close() {
	if e.secrets != "" {
		if err := e.b.cfg.Images.Unmount(e.secrets); err != nil {
			e.b.cfg.Log.Error("build: cannot unmount the secrets", "dir", e.secrets, "err", err)
		}
	}
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
	e.warn()
	for _, i := range e.graph.Needed {
		e.text.begin(i)
	}
	last, err := e.build(ctx, e.graph.Needed[len(e.graph.Needed)-1])
	if err != nil {
		return image.Image{}, err
	}
	return e.finish(ctx, last)
}

// build runs the target and, before and beside it, what it needs. The first error ends the others.
func (e *execution) build(ctx context.Context, target int) (*stageRun, error) {
	group, ctx := errgroup.WithContext(ctx)
	e.group = group
	p := e.begin(ctx, target)
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return p.run, nil
}

// begin starts a stage unless it was.
func (e *execution) begin(ctx context.Context, i int) *pending {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.stages[i]; p != nil {
		return p
	}
	p := &pending{ready: make(chan struct{})}
	e.stages[i] = p
	e.text.begin(i)
	e.group.Go(func() error {
		defer close(p.ready)
		defer e.text.end(i)
		p.run, p.err = e.stage(ctx, e.graph.Stages[i])
		return p.err
	})
	return p
}

// require waits for a stage; it starts it if nobody has.
func (e *execution) require(ctx context.Context, i int) (*stageRun, error) {
	p := e.begin(ctx, i)
	select {
	case <-p.ready:
		return p.run, p.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
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
		e.note("[Warning] One or more build-args %v were not consumed\n", unused)
	}
	e.note("Successfully built %s\n", shortID(img.ID))
	for _, t := range e.req.Tags {
		n, err := image.ParseName(t)
		if err != nil {
			return image.Image{}, err
		}
		e.note("Successfully tagged %s\n", image.FamiliarString(n))
	}
	return img, nil
}

func (e *execution) unusedArgs() []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(e.req.Args)) {
		if _, meta := e.graph.MetaArgs[k]; !meta && !e.used[k] && !slices.Contains(predefinedArgs[:], k) && k != epochArg {
			out = append(out, k)
		}
	}
	return out
}

func shortID(d digest.Digest) string {
	h := strings.TrimPrefix(string(d), "sha256:")
	return h[:min(12, len(h))]
}

// number answers which step of the build is the first of a stage, 0 for a stage that only a trigger asks for.
func (g Graph) number(stage int) int {
	n := 1
	for _, i := range g.Needed {
		if i == stage {
			return n
		}
		n += 1 + len(g.Stages[i].Steps)
	}
	return 0
}

// stage runs one stage from its base to its last step.
func (e *execution) stage(ctx context.Context, st Stage) (*stageRun, error) {
	for _, dep := range e.graph.uses(st) {
		e.begin(ctx, dep)
	}
	r := e.newStageRun(st)
	r.next(st.Step, 0)
	if err := r.from(ctx); err != nil {
		return nil, r.fail(st.Step, err)
	}
	if err := r.triggers(ctx, st); err != nil {
		return nil, r.fail(st.Step, err)
	}
	for i, s := range st.Steps {
		r.next(s, i+1)
		if err := r.do(ctx, s); err != nil {
			return nil, r.fail(s, err)
		}
	}
	return r, nil
}

// next makes s the step that runs and says so.
func (r *stageRun) next(s Step, i int) {
	if first := r.e.graph.number(r.st.Index); first > 0 {
		r.step = first + i
	}
	r.place, r.line = fmt.Sprintf("%d/%d", i+1, len(r.st.Steps)+1), s.Line
	r.tell(Event{Kind: Started, Text: s.Text})
}

// fail places an error and says that the step failed, unless another stage's failure ended it.
func (r *stageRun) fail(s Step, err error) error {
	if !errors.Is(err, context.Canceled) {
		r.tell(Event{Kind: Failed, Text: err.Error()})
	}
	return r.e.graph.at(s, err)
}

// from starts a stage with its base image.
func (r *stageRun) from(ctx context.Context) error {
	base, err := r.e.base(ctx, r.st.Base, r.st.Platform)
	if err != nil {
		return err
	}
	r.start(base)
	r.tell(Event{Kind: Done, Image: base.ID})
	return nil
}

// base finds what a FROM or COPY --from names; images that are not here are pulled.
func (e *execution) base(ctx context.Context, b Base, platform string) (image.Image, error) {
	switch {
	case b.Scratch:
		return image.Image{}, nil
	case b.Image == "":
		r, err := e.require(ctx, b.Stage)
		if err != nil {
			return image.Image{}, err
		}
		return r.img, nil
	}
	if platform == "" {
		platform = e.req.Platform
	}
	key := b.Image + " " + platform
	e.mu.Lock()
	img, ok := e.bases[key]
	e.mu.Unlock()
	if ok {
		return img, nil
	}
	img, err := e.find(ctx, b.Image, platform)
	if err != nil {
		return image.Image{}, err
	}
	if platform != "" && !strings.HasPrefix(platform+"/", "linux/"+img.Config.Architecture+"/") {
		return image.Image{}, errs.New(errs.Unsupported, "image %s is for %s, not for %s", b.Image, img.Platform(), platform)
	}
	e.mu.Lock()
	e.bases[key] = img
	e.mu.Unlock()
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
	e.note("Pulling %s\n", ref)
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
	r.tell(Event{Kind: Note, Text: fmt.Sprintf("# Executing %d build triggers\n", len(list))})
	for _, text := range list {
		cmd, err := parseTrigger(text)
		if err != nil {
			return fmt.Errorf("ONBUILD trigger %q of the base image: %w", text, err)
		}
		s := Step{Line: st.Line, EndLine: st.EndLine, Text: text, Cmd: cmd}
		r.e.resolveTrigger(st, &s)
		if err := r.do(ctx, s); err != nil {
			return fmt.Errorf("ONBUILD trigger %q of the base image: %w", text, err)
		}
	}
	return nil
}

// resolveTrigger finds what a trigger's --from means in this Dockerfile: an earlier stage, else an image.
func (e *execution) resolveTrigger(st Stage, s *Step) {
	find := func(name string) *Base {
		for _, other := range e.graph.Stages[:st.Index] {
			if strings.EqualFold(other.Name, name) {
				return &Base{Stage: other.Index}
			}
		}
		return &Base{Stage: -1, Image: name}
	}
	switch c := s.Cmd.(type) {
	case *instructions.CopyCommand:
		if c.From != "" {
			s.From = find(c.From)
		}
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(c) {
			var b *Base
			if m.From != "" {
				b = find(m.From)
			}
			s.Mounts = append(s.Mounts, b)
		}
	}
}

// use notes that some ARG asked for a build argument.
func (e *execution) use(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.used[name] = true
}
