// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"log/slog"
	"time"

	"github.com/knarr/knarr/internal/backoff"
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
	pause := backoff.Pause{First: 10 * time.Millisecond, Max: 10 * time.Second}
	for {
		followed, err := s.follow(ctx, feed)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if followed {
			pause.Reset()
		}
		s.log.Warn("the watch of the store ended; reading it anew", "err", err)
		if err := pause.Wait(ctx); err != nil {
			return err
		}
	}
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
