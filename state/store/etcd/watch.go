// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/store"
)

// Watch sends what happens to keys with prefix after revision from.
func (s *Store) Watch(ctx context.Context, prefix string, from int64) (<-chan store.Batch, func() error, error) {
	ctx, cancel := context.WithCancel(ctx)
	// No WithFragment: all events of a revision must arrive in one piece.
	opts := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithProgressNotify(), clientv3.WithCreatedNotify()}
	if from > 0 {
		opts = append(opts, clientv3.WithRev(from+1))
	}
	in := s.client.Watch(ctx, prefix, opts...)
	w := &watch{in: in, out: make(chan store.Batch), closed: s.closed, rev: from}
	// "From now" must mean a moment before this function returns, so it waits for etcd to say that the watch is there.
	first, err := w.first(ctx)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	go func() {
		w.err = w.run(ctx, first)
		cancel()
		close(w.out)
	}()
	return w.out, func() error { return w.err }, nil
}

type watch struct {
	in     clientv3.WatchChan
	out    chan store.Batch
	closed <-chan struct{}
	rev    int64 // everything up to it was sent
	err    error // written before out is closed
}

func (w *watch) first(ctx context.Context) (clientv3.WatchResponse, error) {
	select {
	case r, ok := <-w.in:
		if !ok {
			return r, w.ended(ctx)
		}
		if err := r.Err(); err != nil {
			return r, kind("watch", err)
		}
		if w.rev == 0 && r.Created {
			w.rev = r.Header.Revision
		}
		return r, nil
	case <-ctx.Done():
		return clientv3.WatchResponse{}, context.Cause(ctx)
	}
}

func (w *watch) run(ctx context.Context, r clientv3.WatchResponse) error {
	for {
		if b, ok := w.batch(&r); ok {
			select {
			case w.out <- b:
			case <-ctx.Done():
				return w.ended(ctx)
			case <-w.closed:
				return w.ended(ctx)
			}
		}
		var ok bool
		if r, ok = <-w.in; !ok {
			return w.ended(ctx)
		}
		if err := r.Err(); err != nil {
			return kind("watch", err)
		}
	}
}

// ended tells why there is no more to come.
func (w *watch) ended(ctx context.Context) error {
	select {
	case <-w.closed:
		return errs.New(errs.Unavailable, "the store is closed")
	default:
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return errs.New(errs.Unavailable, "etcd ended the watch")
}

// batch is false for answers that say nothing new. A batch of events goes only as far as its last event: the header may
// speak of revisions whose events are still to come. A progress mark does cover its header's revision.
func (w *watch) batch(r *clientv3.WatchResponse) (store.Batch, bool) {
	if len(r.Events) == 0 {
		if !r.IsProgressNotify() || r.Header.Revision < w.rev {
			return store.Batch{}, false
		}
		w.rev = r.Header.Revision
		return store.Batch{Revision: w.rev}, true
	}
	b := store.Batch{Events: make([]store.Event, 0, len(r.Events))}
	for _, e := range r.Events {
		if e.Kv.ModRevision <= w.rev {
			continue // seen: etcd#18667 and its like
		}
		ev := store.Event{KV: kvOf(e.Kv), Delete: e.Type == clientv3.EventTypeDelete}
		if ev.Delete {
			ev.Value = nil
		}
		if e.PrevKv != nil {
			prev := kvOf(e.PrevKv)
			ev.Prev = &prev
		}
		b.Events = append(b.Events, ev)
	}
	if len(b.Events) == 0 {
		return b, false
	}
	b.Revision = b.Events[len(b.Events)-1].ModRevision
	w.rev = b.Revision
	return b, true
}
