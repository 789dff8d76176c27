// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/atomicfile"
)

// CacheMount is one folder of RUN --mount=type=cache.
type CacheMount struct {
	Key           string
	ID            string // as the Dockerfile says it: id= or the target
	Size          int64  // bytes on disk
	Created, Used time.Time
	Uses          int
	Busy          bool // a running step has it
}

// CacheMounts lists the folders, the longest unused first.
func (b *Builder) CacheMounts() ([]CacheMount, error) {
	entries, err := os.ReadDir(filepath.Join(b.cfg.Dir, mountsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []CacheMount
	for _, e := range entries {
		dir := filepath.Join(b.cfg.Dir, mountsDir, e.Name())
		var rec mountRecord
		if err := atomicfile.ReadJSON(filepath.Join(dir, "cache.json"), &rec); err != nil {
			rec = mountRecord{ID: e.Name()} // torn by a crash: its next user makes it anew
		}
		c := CacheMount{Key: e.Name(), ID: rec.ID, Created: rec.Created, Used: rec.Used, Uses: rec.Uses, Size: diskUsage(dir), Busy: b.caches.busy(e.Name())}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b CacheMount) int { return a.Used.Compare(b.Used) })
	return out, nil
}

func (c *cacheUsers) busy(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.users[key] > 0
}

// diskUsage adds up what a folder takes; a step may be changing it.
func diskUsage(dir string) int64 {
	total := int64(0)
	filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(p, &st) == nil {
			total += st.Blocks * 512
		}
		return nil
	})
	return total
}

// PruneOptions say which cache folders go.
type PruneOptions struct {
	All      bool          // those used within the last two days too
	UnusedIn time.Duration // only what was not used for so long; 0: two days, or any with All
	Keep     int64         // bytes that may stay; the longest unused go first until that is reached; 0: all that match go
	IDs      []string      // only these; nil: any
}

// recentlyUsed is what a prune without further words leaves alone.
const recentlyUsed = 48 * time.Hour

// PruneMounts removes cache folders that no step has now, and answers their IDs and bytes.
func (b *Builder) PruneMounts(o PruneOptions) (ids []string, freed int64, err error) {
	list, err := b.CacheMounts()
	if err != nil {
		return nil, 0, err
	}
	if o.UnusedIn == 0 && !o.All && o.Keep == 0 {
		o.UnusedIn = recentlyUsed
	}
	total := int64(0)
	for _, c := range list {
		total += c.Size
	}
	for _, c := range list {
		if o.Keep > 0 && total <= o.Keep || o.UnusedIn > 0 && time.Since(c.Used) < o.UnusedIn || len(o.IDs) > 0 && !slices.ContainsFunc(o.IDs, func(id string) bool { return id != "" && strings.HasPrefix(c.Key, id) }) {
			continue
		}
		release, ok := b.caches.claim(c.Key)
		if !ok {
			continue
		}
		err := os.RemoveAll(filepath.Join(b.cfg.Dir, mountsDir, c.Key))
		release()
		if err != nil {
			return ids, freed, err
		}
		ids, freed, total = append(ids, c.Key), freed+c.Size, total-c.Size
	}
	return ids, freed, nil
}

// boundMounts keeps the folders within Config.CacheBytes; it is called after builds.
func (b *Builder) boundMounts() {
	if b.cfg.CacheBytes <= 0 {
		return
	}
	if ids, freed, err := b.PruneMounts(PruneOptions{Keep: b.cfg.CacheBytes}); err != nil {
		b.cfg.Log.Warn("build: cannot bound the cache", "err", err)
	} else if len(ids) > 0 {
		b.cfg.Log.Info("build: cache folders removed", "count", len(ids), "bytes", freed, "ids", strings.Join(ids, " "))
	}
}
