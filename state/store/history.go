// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"time"

	"github.com/knarr/knarr/internal/errs"
)

// Version is what a key became at KV.ModRevision.
type Version struct {
	KV
	Deleted bool
}

// Past is what is still known of a key.
type Past struct {
	Versions []Version // oldest first; the first may be what was there at Oldest, written before it
	Oldest   int64     // what was before this revision is forgotten
	Revision int64     // how far Versions goes
}

// askAgain is how often progress is asked for until the watch has come to the present.
const askAgain = 50 * time.Millisecond

// History reads every version of one key that was not compacted away. It costs a scan of all revisions since then.
func History(ctx context.Context, s Store, key string) (Past, error) {
	for {
		p, err := history(ctx, s, key)
		if !errors.Is(err, errs.Gone) || ctx.Err() != nil {
			return p, err
		}
		// Compacted meanwhile: what is left can be read from the new beginning.
	}
}

func history(ctx context.Context, s Store, key string) (Past, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_, _, now, err := s.Get(ctx, key)
	if err != nil {
		return Past{}, err
	}
	oldest, err := s.Oldest(ctx)
	if err != nil {
		return Past{}, err
	}
	p := Past{Oldest: oldest, Revision: now}
	page, err := s.Range(ctx, key, RangeOptions{Revision: oldest, Limit: 1})
	if err != nil {
		return Past{}, err
	}
	if len(page.KVs) > 0 && page.KVs[0].Key == key {
		p.Versions = append(p.Versions, Version{KV: page.KVs[0]})
	}
	batches, why, err := s.Watch(ctx, key, oldest)
	if err != nil {
		return Past{}, err
	}
	ask := time.NewTicker(askAgain)
	defer ask.Stop()
	for at := oldest; at < now; {
		select {
		case b, ok := <-batches:
			if !ok {
				return Past{}, why()
			}
			for _, e := range b.Events {
				if e.Key == key && e.ModRevision <= now {
					p.Versions = append(p.Versions, Version{KV: e.KV, Deleted: e.Delete})
				}
			}
			at = b.Revision
		case <-ask.C:
			if err := s.Progress(ctx); err != nil {
				return Past{}, err
			}
		}
	}
	return p, nil
}
