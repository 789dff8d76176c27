// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/engine/image"
)

// stageRun is a stage on its way: the image so far, and what its next step will see.
type stageRun struct {
	e    *execution
	st   Stage
	img  image.Image       // the last step's result; zero for scratch
	cfg  image.Spec        // its config, which steps change before it is stored
	args map[string]string // ARGs declared so far that have a value
	lex  *shell.Lex

	step, line int    // that runs
	place      string // of the step in the stage: "2/4"
}

func (e *execution) newStageRun(st Stage) *stageRun {
	return &stageRun{e: e, st: st, args: map[string]string{}, lex: shell.NewLex(e.graph.Escape)}
}

// start makes base the image so far.
func (r *stageRun) start(base image.Image) {
	r.img, r.cfg = base, cloneSpec(base.Config)
	if base.ID == "" {
		p := strings.Split(r.e.targetPlatform(), "/")
		r.cfg.OS, r.cfg.Architecture = p[0], p[min(1, len(p)-1)]
		if len(p) > 2 {
			r.cfg.Variant = p[2]
		}
	}
}

// cloneSpec copies what steps change, so that the store's image stays as it is.
func cloneSpec(s image.Spec) image.Spec {
	c := &s.Config
	c.Env, c.Cmd, c.Entrypoint = slices.Clone(c.Env), slices.Clone(c.Cmd), slices.Clone(c.Entrypoint)
	c.OnBuild, c.Shell = slices.Clone(c.OnBuild), slices.Clone(c.Shell)
	c.ExposedPorts, c.Volumes, c.Labels = maps.Clone(c.ExposedPorts), maps.Clone(c.Volumes), maps.Clone(c.Labels)
	s.History = slices.Clone(s.History)
	return s
}

// do expands one instruction's words and runs it.
func (r *stageRun) do(ctx context.Context, s Step) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ins, err := findInstruction(s.Cmd)
	if err != nil {
		return err
	}
	if x, ok := s.Cmd.(instructions.SupportsSingleWordExpansion); ok {
		if err := x.Expand(r.expand); err != nil {
			return err
		}
	}
	if x, ok := s.Cmd.(instructions.SupportsSingleWordExpansionRaw); ok {
		if err := x.ExpandRaw(r.expandRaw); err != nil {
			return err
		}
	}
	return ins.run(ctx, r, s)
}

// env is what words are expanded with: ARGs, over which ENVs win.
func (r *stageRun) env() []string { return append(envList(r.args), r.cfg.Config.Env...) }

func envGetter(env []string) shell.EnvGetter { return shell.EnvsFromSlice(env) }

func (r *stageRun) expand(word string) (string, error) {
	out, _, err := r.lex.ProcessWord(word, envGetter(r.env()))
	return out, err
}

// expandRaw leaves quotes alone: the content of a here-document is not a shell word.
func (r *stageRun) expandRaw(word string) (string, error) {
	lex := shell.NewLex(r.e.graph.Escape)
	lex.SkipProcessQuotes = true
	out, _, err := lex.ProcessWord(word, shell.EnvsFromSlice(r.env()))
	return out, err
}

// path makes a container path absolute.
func (r *stageRun) path(p string) string {
	if strings.HasPrefix(p, "/") {
		return filepath.Clean(p)
	}
	return filepath.Join("/", r.cfg.Config.WorkingDir, p)
}

// metadata stores an image with the changed config and the same layers. text becomes the history entry.
func (r *stageRun) metadata(ctx context.Context, text string) error {
	key := r.key("metadata", text, r.configHash())
	if r.cached(key) {
		return nil
	}
	if done, err := r.fromCacheImage(ctx, key, text); done || err != nil {
		return err
	}
	now := r.e.now()
	sp := cloneSpec(r.cfg)
	sp.Created = &now
	sp.History = append(sp.History, ocispec.History{Created: &now, CreatedBy: text, EmptyLayer: true})
	img, err := r.e.b.cfg.Images.Put(ctx, image.PutOptions{Base: r.img, Config: sp, Parent: r.img.ID, Cache: true})
	if err != nil {
		return err
	}
	return r.advance(key, img)
}

// filesystem makes a layer: change works on the mounted root file system.
func (r *stageRun) filesystem(ctx context.Context, key, text string, files image.InitFiles, change func(snapKey, root string) error) error {
	if r.cached(key) {
		return nil
	}
	if done, err := r.fromCacheImage(ctx, key, text); done || err != nil {
		return err
	}
	store := r.e.b.cfg.Images
	snap := r.e.nextKey()
	files.Volatile = true // a build that a power cut ends is begun anew
	rw, err := store.Prepare(ctx, snap, r.img, files)
	if err != nil {
		return err
	}
	err = r.e.mounted(snap, change)
	if err == nil && r.e.epoch != nil {
		err = clampTimes(rw.RW, *r.e.epoch)
	}
	if err != nil {
		if rerr := store.RemoveSnapshot(snap); rerr != nil {
			r.e.b.cfg.Log.Warn("build: cannot remove a snapshot", "key", snap, "err", rerr)
		}
		return err
	}
	now := r.e.now()
	img, err := store.CommitSnapshot(ctx, snap, image.CommitOptions{Spec: &r.cfg, CreatedBy: text, Cache: true, Consume: true, Created: &now})
	if err != nil {
		return err
	}
	return r.advance(key, img)
}

func (e *execution) nextKey() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.serial++
	return fmt.Sprintf("%s%s-%d", keyPrefix, e.id, e.serial)
}

// mounted mounts a snapshot for the time of change.
func (e *execution) mounted(snap string, change func(snapKey, root string) error) (err error) {
	dir, err := e.mountPoint()
	if err != nil {
		return err
	}
	if err := e.b.cfg.Images.Mount(snap, dir); err != nil {
		return err
	}
	defer func() {
		if uerr := e.b.cfg.Images.Unmount(dir); err == nil {
			err = uerr
		}
		os.Remove(dir)
	}()
	return change(snap, dir)
}

func (e *execution) mountPoint() (string, error) { return os.MkdirTemp(e.work, "mnt-") }

// advance makes img the stage's image and remembers it for the next build.
func (r *stageRun) advance(key string, img image.Image) error {
	r.img, r.cfg = img, cloneSpec(img.Config)
	r.tell(Event{Kind: Done, Image: img.ID})
	return r.e.b.remember(key, img.ID)
}
