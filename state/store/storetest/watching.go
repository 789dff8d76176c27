// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/store"
)

// watcher reads a watch event by event.
type watcher struct {
	t      *testing.T
	in     <-chan store.Batch
	why    func() error
	cancel context.CancelFunc
	rev    int64 // the last batch's
}

func watch(t *testing.T, s store.Store, prefix string, from int64) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	in, why, err := s.Watch(ctx, prefix, from)
	if err != nil {
		cancel()
		t.Fatalf("watch %s from %d: %v", prefix, from, err)
	}
	t.Cleanup(cancel)
	return &watcher{t: t, in: in, why: why, cancel: cancel, rev: from}
}

func (w *watcher) batch() store.Batch {
	w.t.Helper()
	select {
	case b, ok := <-w.in:
		if !ok {
			w.t.Fatalf("the watch ended: %v", w.why())
		}
		if b.Revision < w.rev {
			w.t.Fatalf("a batch of revision %d after one of %d", b.Revision, w.rev)
		}
		w.rev = b.Revision
		return b
	case <-time.After(patience):
		w.t.Fatal("nothing came")
		panic("unreachable")
	}
}

// next reads n events and writes them down: +key=value@rev a creation, ~key=value<-old@rev an update, -key<-old@rev a deletion.
func (w *watcher) next(n int) string {
	w.t.Helper()
	var out []string
	for len(out) < n {
		b := w.batch()
		for i, e := range b.Events {
			if e.ModRevision > b.Revision {
				w.t.Fatalf("event of revision %d in a batch up to %d", e.ModRevision, b.Revision)
			}
			if i == len(b.Events)-1 && e.ModRevision != b.Revision {
				w.t.Fatalf("a batch up to %d whose last event is of %d", b.Revision, e.ModRevision)
			}
			out = append(out, eventText(e))
		}
	}
	return strings.Join(out, " ")
}

func eventText(e store.Event) string {
	switch {
	case e.Delete && e.Prev == nil:
		return fmt.Sprintf("-%s<-nothing@%d", e.Key, e.ModRevision)
	case e.Delete:
		return fmt.Sprintf("-%s<-%s@%d", e.Key, e.Prev.Value, e.ModRevision)
	case e.Prev == nil:
		return fmt.Sprintf("+%s=%s@%d", e.Key, e.Value, e.ModRevision)
	}
	return fmt.Sprintf("~%s=%s<-%s@%d", e.Key, e.Value, e.Prev.Value, e.ModRevision)
}

func testWatch(t *testing.T, s store.Store) {
	start := put(t, s, "/a", "0")
	w := watch(t, s, "/", start)
	r := start
	put(t, s, "/a", "1")
	put(t, s, "/b", "1")
	del(t, s, "/a")
	put(t, s, "/a", "2")
	want(t, "events", w.next(4), fmt.Sprintf("~/a=1<-0@%d +/b=1@%d -/a<-1@%d +/a=2@%d", r+1, r+2, r+3, r+4))
}

func testWatchResume(t *testing.T, s store.Store) {
	const n = 300
	start := put(t, s, "/k", "start")
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			put(t, s, "/k", fmt.Sprint(i))
		}
	})
	defer wg.Wait()
	seen, from := 0, start
	for seen < n {
		w := watch(t, s, "/", from)
		for range 1 + seen%7 { // leave after some batches, come back where we were
			for _, e := range w.batch().Events {
				want(t, "the next event", []any{string(e.Value), e.ModRevision}, []any{seen, start + 1 + int64(seen)})
				seen++
			}
			if seen >= n {
				break
			}
		}
		from = w.rev
		w.cancel()
	}
}

func testWatchNow(t *testing.T, s store.Store) {
	put(t, s, "/a", "before")
	for i := range 20 {
		w := watch(t, s, "/", 0)
		rev := put(t, s, fmt.Sprintf("/n%d", i), "x")
		want(t, "the first event", w.next(1), fmt.Sprintf("+/n%d=x@%d", i, rev))
		w.cancel()
	}
}

func testWatchFuture(t *testing.T, s store.Store) {
	now := put(t, s, "/a", "0")
	w := watch(t, s, "/", now+2)
	for i := range 4 {
		put(t, s, "/a", fmt.Sprint(i+1))
	}
	want(t, "events", w.next(2), fmt.Sprintf("~/a=3<-2@%d ~/a=4<-3@%d", now+3, now+4))
}

func testWatchPrefix(t *testing.T, s store.Store) {
	start := put(t, s, "/p/a", "0")
	w := watch(t, s, "/p/", start)
	put(t, s, "/p", "x")
	put(t, s, "/p0", "x")
	put(t, s, "/o/a", "x")
	last := put(t, s, "/p/b", "1")
	want(t, "events", w.next(1), fmt.Sprintf("+/p/b=1@%d", last))
}

func testWatchAtomic(t *testing.T, s store.Store) {
	ctx := testContext(t)
	start := put(t, s, "/a", "0")
	const keys = 200
	big := strings.Repeat("v", 4000)
	w := watch(t, s, "/", start)
	for range 5 {
		ops := make([]store.Op, keys)
		for i := range ops {
			ops[i] = store.Op{Key: fmt.Sprintf("/k%03d", i), Value: []byte(big)}
		}
		if _, failed, err := s.Txn(ctx, nil, ops); err != nil || failed != nil {
			t.Fatalf("txn: %v %v", failed, err)
		}
	}
	for seen := 0; seen < 5*keys; {
		b := w.batch()
		count := map[int64]int{}
		for _, e := range b.Events {
			count[e.ModRevision]++
		}
		for rev, n := range count {
			want(t, fmt.Sprintf("events of revision %d in its batch", rev), n, keys)
		}
		seen += len(b.Events)
	}
}

func testProgress(t *testing.T, s store.Store) {
	ctx := testContext(t)
	start := put(t, s, "/p/a", "0")
	w := watch(t, s, "/p/", start)
	now := put(t, s, "/elsewhere", "1")
	for w.rev < now {
		if err := s.Progress(ctx); err != nil {
			t.Fatal(err)
		}
		if b := w.batch(); len(b.Events) > 0 {
			t.Fatalf("events of another prefix: %v", b.Events)
		}
	}
	want(t, "the mark's revision", w.rev, now)
}

func testProgressOrder(t *testing.T, s store.Store) {
	ctx := testContext(t)
	start := put(t, s, "/p", "start")
	w := watch(t, s, "/p", start)
	const n = 200
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for i := range n {
			put(t, s, "/p", fmt.Sprint(i))
			if i%3 == 0 {
				_ = s.Progress(ctx)
			}
		}
	})
	for seen := 0; seen < n; {
		b := w.batch()
		for _, e := range b.Events {
			want(t, "the next event", []any{string(e.Value), e.ModRevision}, []any{seen, start + 1 + int64(seen)})
			seen++
		}
		// The only writer writes one key, so whoever is told revision r has been told all of r-start writes.
		if got := start + int64(seen); b.Revision > got {
			t.Fatalf("told revision %d, but the events only up to %d", b.Revision, got)
		}
	}
}

func testWatchCompacted(t *testing.T, s store.Store) {
	ctx := testContext(t)
	first := put(t, s, "/a", "0")
	for i := range 5 {
		put(t, s, "/a", fmt.Sprint(i))
	}
	last := put(t, s, "/a", "last")
	if err := s.Compact(ctx, last); err != nil {
		t.Fatal(err)
	}
	in, why, err := s.Watch(ctx, "/", first)
	if err == nil {
		for b := range in {
			if len(b.Events) > 0 {
				t.Fatalf("events although they are compacted: %v", b.Events)
			}
		}
		err = why()
	}
	wantKind(t, err, errs.Gone, "watch from a compacted revision")
}

func testWatchEnds(t *testing.T, s store.Store) {
	start := put(t, s, "/a", "0")
	w := watch(t, s, "/", start)
	w.cancel()
	for range w.in {
	}
	if err := w.why(); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled watch ended with %v", err)
	}
	w = watch(t, s, "/", start)
	full := watch(t, s, "/", start) // nobody reads this one
	put(t, s, "/a", "1")
	put(t, s, "/a", "2")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range w.in {
	}
	wantKind(t, w.why(), errs.Unavailable, "the watch of a closed store")
	for range full.in {
	}
}
