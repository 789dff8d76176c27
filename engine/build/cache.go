// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/atomicfile"
)

// cacheRecord is cache/<key>.json: what a step made. It is a hint: the image it names may have been removed since.
type cacheRecord struct {
	Version int           `json:"version"`
	Image   digest.Digest `json:"image"`
}

// cacheKey identifies a step: the image it starts from and everything its result depends on.
func cacheKey(parent digest.Digest, parts ...string) string {
	h := sha256.New()
	for _, p := range append([]string{"1", string(parent)}, parts...) { // 1: the version of this function
		fmt.Fprintf(h, "%d:%s,", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// key identifies a step of the stage: the image so far, what the instruction depends on, and what dates it would give.
func (r *stageRun) key(parts ...string) string {
	if r.e.epoch != nil {
		parts = append(parts, "epoch "+r.e.epoch.String())
	}
	return cacheKey(r.img.ID, parts...)
}

// configHash tells configs apart that the text of an instruction does not.
func (r *stageRun) configHash() string {
	data, err := json.Marshal(r.cfg.Config)
	if err != nil {
		return err.Error() // cannot be: the type has only strings, numbers and maps of them
	}
	return string(data) + r.cfg.Author
}

func (b *Builder) cacheFile(key string) string {
	return filepath.Join(b.cfg.Dir, cacheDir, key+".json")
}

// cached takes over an earlier build's result of the same step.
func (r *stageRun) cached(key string) bool {
	if r.e.req.NoCache {
		return false
	}
	var rec cacheRecord
	if err := atomicfile.ReadJSON(r.e.b.cacheFile(key), &rec); err != nil {
		return false // none, or torn by a crash: both mean the step is run
	}
	if rec.Image.Validate() != nil {
		return false
	}
	img, err := r.e.b.cfg.Images.Get(string(rec.Image))
	if err != nil || img.Parent != r.img.ID {
		return false
	}
	r.img, r.cfg = img, cloneSpec(img.Config)
	r.tell(Event{Kind: Cached, Image: img.ID})
	return true
}

// fromCacheImage takes a step over from an image of --cache-from: one that was made of the same steps up to here. What a
// step was is its history's text, which for files holds their digest.
func (r *stageRun) fromCacheImage(ctx context.Context, key, text string) (bool, error) {
	if r.e.req.NoCache {
		return false, nil
	}
	n := len(r.cfg.History)
	for _, ref := range r.e.req.CacheFrom {
		from, err := r.e.b.cfg.Images.Get(ref)
		if err != nil || len(from.Config.History) <= n || !sameSteps(from, r.cfg, r.img.Layers) || from.Config.History[n].CreatedBy != text {
			continue // also one that is not here: cache is a hint
		}
		step := from.Config.History[n]
		layers := len(r.img.Layers)
		if !step.EmptyLayer {
			layers++
		}
		if layers > len(from.Layers) {
			continue
		}
		sp := cloneSpec(r.cfg)
		sp.Created, sp.History = step.Created, append(sp.History, step)
		from.Layers = from.Layers[:layers]
		img, err := r.e.b.cfg.Images.Put(ctx, image.PutOptions{Base: from, Config: sp, Parent: r.img.ID, Cache: true})
		if err != nil {
			return false, err
		}
		r.img, r.cfg = img, cloneSpec(img.Config)
		r.tell(Event{Kind: Cached, Image: img.ID})
		return true, r.e.b.remember(key, img.ID)
	}
	return false, nil
}

// sameSteps says whether an image began with the n steps and the layers that lead to here.
func sameSteps(from image.Image, cfg image.Spec, layers []digest.Digest) bool {
	if len(layers) > len(from.Layers) || !slices.Equal(from.Layers[:len(layers)], layers) {
		return false
	}
	for i, h := range cfg.History {
		if other := from.Config.History[i]; other.CreatedBy != h.CreatedBy || other.EmptyLayer != h.EmptyLayer {
			return false
		}
	}
	return true
}

// PruneCache forgets all steps: the next builds run them again. The images they made are image.Store.Prune's to remove.
func (b *Builder) PruneCache() error { return os.RemoveAll(filepath.Join(b.cfg.Dir, cacheDir)) }

// sweepCache forgets steps whose image is gone, so that the folder does not grow for ever.
func (b *Builder) sweepCache() error {
	files, err := filepath.Glob(filepath.Join(b.cfg.Dir, cacheDir, "*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		var rec cacheRecord
		if err := atomicfile.ReadJSON(f, &rec); err == nil && rec.Image.Validate() == nil {
			if _, err := b.cfg.Images.Get(string(rec.Image)); err == nil {
				continue
			}
		}
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}

// remember is not durable on purpose: what a power cut takes is built again.
func (b *Builder) remember(key string, id digest.Digest) error {
	data, err := json.Marshal(cacheRecord{Version: 1, Image: id})
	if err != nil {
		return err
	}
	return atomicfile.WriteVolatile(b.cacheFile(key), data, 0o600)
}
