// SPDX-License-Identifier: Apache-2.0

package mem

import (
	"context"
	"strings"
	"time"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/store"
)

// markEvery is how often a quiet watch gets a progress mark.
const markEvery = time.Minute

// Watch sends what happens to keys with prefix after revision from.
func (s *Store) Watch(ctx context.Context, prefix string, from int64) (<-chan store.Batch, func() error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return nil, nil, err
	}
	if from == 0 {
		from = s.rev
	}
	w := &watch{store: s, prefix: prefix, rev: from, asked: s.progress, out: make(chan store.Batch)}
	s.watches.Add(1)
	go func() {
		defer s.watches.Done()
		w.err = w.run(ctx)
		close(w.out)
	}()
	return w.out, func() error { return w.err }, nil
}

type watch struct {
	store  *Store
	prefix string
	rev    int64 // sent up to here
	asked  int64
	out    chan store.Batch
	err    error // written before out is closed
}

func (w *watch) run(ctx context.Context) error {
	mark := time.NewTicker(markEvery)
	defer mark.Stop()
	due := false
	for {
		batches, changed, err := w.next(due)
		if err != nil {
			return err
		}
		due = false
		for _, b := range batches {
			select {
			case w.out <- b:
			case <-w.store.ended:
				return errs.New(errs.Unavailable, "the store is closed")
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if len(batches) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-mark.C:
			due = true
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// next takes what is in the log; the channel tells when to look again.
func (w *watch) next(due bool) ([]store.Batch, <-chan struct{}, error) {
	s := w.store
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, nil, errs.New(errs.Unavailable, "the store is closed")
	case w.rev < s.compacted:
		return nil, nil, errs.New(errs.Gone, "revision %d has been compacted (%d)", w.rev, s.compacted)
	}
	var out []store.Batch
	for _, e := range s.log[s.after(w.rev):] {
		b := store.Batch{Revision: e.rev}
		for _, ev := range e.events {
			if strings.HasPrefix(ev.Key, w.prefix) {
				b.Events = append(b.Events, ev)
			}
		}
		if len(b.Events) > 0 {
			out = append(out, b)
		}
	}
	if w.asked != s.progress {
		w.asked, due = s.progress, true
	}
	if due && len(out) == 0 && w.rev <= s.rev {
		out = append(out, store.Batch{Revision: s.rev})
	}
	w.rev = max(w.rev, s.rev)
	return out, s.changed, nil
}
