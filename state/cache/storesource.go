// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"log/slog"
	"time"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/store"
)

// root is the folder of the store that holds all objects.
const root = "/registry/"

// FromStore is the Source that reads the store itself: one range and then one watch over all kinds.
func FromStore(s store.Store, types []*kinds.Type, log *slog.Logger) Source {
	return &storeSource{store: s, types: types, log: log}
}

type storeSource struct {
	store store.Store
	types []*kinds.Type
	log   *slog.Logger
}

func (s *storeSource) Progress(ctx context.Context) error { return s.store.Progress(ctx) }

// Run reads and follows; when the watch is lost it begins anew, which the cache turns into the changes that were missed.
func (s *storeSource) Run(ctx context.Context, feed func(Batch)) error {
	return retry(ctx, s.log, "follow the store", func() (progressed bool, err error) { return s.follow(ctx, feed) })
}

// pageSize bounds how much of the store is in memory twice while it is read.
const pageSize = 500

func (s *storeSource) follow(ctx context.Context, feed func(Batch)) (bool, error) {
	all, err := s.load(ctx)
	if err != nil {
		return false, err
	}
	feed(all)
	batches, why, err := s.store.Watch(ctx, root, all.Revision)
	if err != nil {
		return true, err
	}
	for b := range batches {
		out := Batch{Revision: b.Revision}
		for i := range b.Events {
			if u, ok := s.update(&b.Events[i].KV, b.Events[i].Delete); ok {
				out.Updates = append(out.Updates, u)
			}
		}
		feed(out)
	}
	return true, why()
}

func (s *storeSource) load(ctx context.Context) (Batch, error) {
	b := Batch{Reset: true}
	o := store.RangeOptions{Limit: pageSize}
	for {
		page, err := s.store.Range(ctx, root, o)
		if err != nil {
			return b, err
		}
		for i := range page.KVs {
			if u, ok := s.update(&page.KVs[i], false); ok {
				b.Updates = append(b.Updates, u)
			}
		}
		b.Revision = page.Revision
		if !page.More {
			return b, nil
		}
		o.Revision = page.Revision
		o.From = page.KVs[len(page.KVs)-1].Key + "\x00"
	}
}

// update decodes one key. What is of no known kind, or not decodable, is left out: the second is said aloud.
func (s *storeSource) update(kv *store.KV, deleted bool) (Update, bool) {
	t, ns, name, ok := s.parse(kv.Key)
	if !ok {
		return Update{}, false
	}
	u := Update{Type: t, Namespace: ns, Name: name, Revision: kv.ModRevision, CreateRevision: kv.CreateRevision}
	if deleted {
		return u, true
	}
	obj, err := Decode(t, kv.Value)
	if err != nil {
		s.log.Error("an object in the store cannot be read; it is treated as absent", "key", kv.Key, "err", err)
		return u, true
	}
	u.Object = obj
	return u, true
}

// retry calls f until ctx ends, with growing pauses while it makes no progress.
func retry(ctx context.Context, log *slog.Logger, what string, f func() (progressed bool, err error)) error {
	const first, last = 10 * time.Millisecond, 10 * time.Second
	pause := first
	for {
		progressed, err := f()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if progressed {
			pause = first
		}
		log.Warn(what+": it ended, beginning anew", "err", err, "pause", pause)
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case <-t.C:
		}
		pause = min(2*pause, last)
	}
}
