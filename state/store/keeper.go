// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/knarr/knarr/internal/errs"
)

// Keeper compacts a store, so that history does not grow without bound. The zero durations and counts work.
type Keeper struct {
	Store Store
	Log   *slog.Logger
	// Keep is how long history is kept, at least; 0: 5 minutes, as Kubernetes does.
	Keep time.Duration
	// Most is how many revisions of history there may be; 0: 100,000. Past it Keep is cut short.
	Most int64
	// Tick, if set, replaces the clock: one look each.
	Tick <-chan time.Time
}

// looksPerKeep: Most is enforced with this grain.
const looksPerKeep = 10

// Run compacts until ctx ends.
func (k Keeper) Run(ctx context.Context) error {
	if k.Keep <= 0 {
		k.Keep = 5 * time.Minute
	}
	if k.Most <= 0 {
		k.Most = 100_000
	}
	if k.Tick == nil {
		t := time.NewTicker(k.Keep / looksPerKeep)
		defer t.Stop()
		k.Tick = t.C
	}
	var seen []int64 // the revision at the last looks, oldest first
	var done int64
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-k.Tick:
		}
		_, _, rev, err := k.Store.Get(ctx, "/registry/")
		if err != nil {
			k.Log.Debug("compact the store", "err", err)
			continue
		}
		seen = append(seen, rev)
		target := rev - k.Most
		if len(seen) > looksPerKeep {
			target = max(target, seen[0])
			seen = seen[1:]
		}
		if target <= done {
			continue
		}
		// Another server of the same etcd may have been first: then it is Gone already.
		if err := k.Store.Compact(ctx, target); err != nil && !errors.Is(err, errs.Gone) {
			k.Log.Warn("compact the store", "rev", target, "err", err)
			continue
		}
		done = target
	}
}
