// SPDX-License-Identifier: Apache-2.0

package build

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/inroot"
)

// mountsDir holds the folders of RUN --mount=type=cache, one folder each: cache.json and data/.
const mountsDir = "mounts"

// mountRecord is mounts/<key>/cache.json.
type mountRecord struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Used    time.Time `json:"used"`
	Uses    int       `json:"uses"`
}

// cacheUsers says who has which cache folder now. All that a step wants it gets at once or not yet, so that two steps never
// wait for each other.
type cacheUsers struct {
	mu      sync.Mutex // guards what follows
	users   map[string]int
	locked  map[string]bool
	changed chan struct{} // closed and made anew when somebody leaves

	opening sync.Mutex // held while a folder is made or its record is written: sharers come at once
}

func newCacheUsers() *cacheUsers {
	return &cacheUsers{users: map[string]int{}, locked: map[string]bool{}, changed: make(chan struct{})}
}

// cacheWant is one cache folder that a step asks for.
type cacheWant struct {
	id      string
	sharing instructions.ShareMode
}

// take answers the keys of folders, in the order of wants, and waits while another's lock is in the way.
func (c *cacheUsers) take(ctx context.Context, wants []cacheWant) (keys []string, release func(), err error) {
	for {
		c.mu.Lock()
		keys, ok := c.tryTake(wants)
		wait := c.changed
		c.mu.Unlock()
		if ok {
			return keys, func() { c.leave(keys) }, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

func (c *cacheUsers) tryTake(wants []cacheWant) ([]string, bool) {
	var keys []string
	for _, w := range wants {
		key := cacheFolder(w.id, 0)
		switch w.sharing {
		case instructions.MountSharingPrivate:
			for n := 1; c.users[key] > 0; n++ {
				key = cacheFolder(w.id, n)
			}
		case instructions.MountSharingLocked:
			if c.users[key] > 0 {
				c.drop(keys)
				return nil, false
			}
		default:
			if c.locked[key] {
				c.drop(keys)
				return nil, false
			}
		}
		c.users[key]++
		c.locked[key] = w.sharing == instructions.MountSharingLocked
		keys = append(keys, key)
	}
	return keys, true
}

func (c *cacheUsers) drop(keys []string) {
	for _, k := range keys {
		if c.users[k]--; c.users[k] == 0 {
			delete(c.users, k)
			delete(c.locked, k)
		}
	}
}

func (c *cacheUsers) leave(keys []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(keys)
	close(c.changed)
	c.changed = make(chan struct{})
}

// claim takes a folder for removal; it answers false if a step has it.
func (c *cacheUsers) claim(key string) (release func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users[key] > 0 {
		return nil, false
	}
	c.users[key], c.locked[key] = 1, true
	return func() { c.leave([]string{key}) }, true
}

// cacheFolder is the name of a cache's folder; n tells private ones of the same id apart.
func cacheFolder(id string, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", n, id))
	return hex.EncodeToString(sum[:])
}

// caches takes and fills the folders of all cache mounts of a step.
func (ms *runMounts) caches(ctx context.Context) error {
	var wants []cacheWant
	var at []*mountWant
	for i := range ms.wants {
		w := &ms.wants[i]
		if w.Type != instructions.MountTypeCache {
			continue
		}
		id := cmp.Or(w.CacheID, w.target)
		if w.from != nil {
			id += fmt.Sprintf(" from %v %s", *w.from, w.Source)
		}
		wants, at = append(wants, cacheWant{id, w.CacheSharing}), append(at, w)
	}
	if len(wants) == 0 {
		return nil
	}
	b := ms.r.e.b
	keys, release, err := b.caches.take(ctx, wants)
	if err != nil {
		return err
	}
	ms.release = append(ms.release, release)
	for i, w := range at {
		dir, err := b.openCache(keys[i], wants[i].id, w)
		if err != nil {
			return fmt.Errorf("%s: %w", wants[i].id, err)
		}
		ms.add(w, dir)
	}
	return nil
}

// openCache answers a cache's folder, and makes it as its first user wants it.
func (b *Builder) openCache(key, id string, w *mountWant) (string, error) {
	b.caches.opening.Lock()
	defer b.caches.opening.Unlock()
	dir := filepath.Join(b.cfg.Dir, mountsDir, key)
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "cache.json")
	var rec mountRecord
	if err := atomicfile.ReadJSON(file, &rec); err != nil || rec.ID != id {
		if err := os.RemoveAll(dir); err != nil { // a first use that a crash cut off
			return "", err
		}
		rec = mountRecord{Version: 1, ID: id, Created: time.Now().UTC()}
		if err := fillCache(data, w); err != nil {
			return "", err
		}
	}
	rec.Used, rec.Uses = time.Now().UTC(), rec.Uses+1
	text, err := json.Marshal(rec)
	if err != nil {
		return "", err
	}
	return data, atomicfile.WriteVolatile(file, text, 0o600)
}

func fillCache(data string, w *mountWant) error {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	root, err := inroot.Open(data)
	if err != nil {
		return err
	}
	defer root.Close()
	if w.src != nil {
		if !w.src.isDir() {
			return errs.New(errs.Invalid, "%s is not a directory", w.Source)
		}
		if err := w.tree.copyInto(root, []source{*w.src}, "/", true, ownership{}); err != nil {
			return err
		}
	}
	if err := unix.Fchown(root.Fd(), id32(w.UID), id32(w.GID)); err != nil {
		return err
	}
	return unix.Fchmod(root.Fd(), modeOr(w.Mode, 0o755))
}
