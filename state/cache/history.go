// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/knarr/knarr/internal/errs"
)

// history keeps the last changes of each kind, and of all kinds together, for watches to read at their own pace: no
// goroutine and no queue for each watch, and one that is too slow loses its place instead of holding memory.
type history struct {
	mu     sync.Mutex // guards all below
	rings  []*ring    // by kind
	all    *ring      // of all kinds
	max    int
	waiter chan struct{}
}

// ring numbers the changes it was given from 0 on and holds those from first to next-1.
type ring struct {
	max         int
	changes     []Change // change number n is at n % max
	first, next uint64
	forgotten   int64 // changes up to this revision may be missing
	revision    int64 // all changes up to it have been added
	wake        chan struct{}
	era         int    // grows when the kind is defined anew
	cut         uint64 // watches of an earlier era end before this number
}

// allKinds is the number that stands for all kinds together.
const allKinds = -1

func newHistory(kinds, max int) *history {
	h := &history{max: max, all: &ring{max: 4 * max, wake: make(chan struct{})}}
	for range kinds {
		h.rings = append(h.rings, &ring{max: max, wake: make(chan struct{})})
	}
	return h
}

func (h *history) ring(kind int) *ring {
	if kind == allKinds {
		return h.all
	}
	return h.rings[kind]
}

// define makes room for the kinds numbered below count, and begins a new era of those in numbers.
func (h *history) define(count int, numbers []int, rev int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.rings) < count {
		h.rings = append(h.rings, &ring{max: h.max, wake: make(chan struct{}), forgotten: rev - 1, revision: rev - 1})
	}
	for _, n := range numbers {
		r := h.rings[n]
		r.era++
		r.cut = r.next
		close(r.wake)
		r.wake = make(chan struct{})
	}
}

// moved is closed by the next publish.
func (h *history) moved() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiter == nil {
		h.waiter = make(chan struct{})
	}
	return h.waiter
}

// numbered is a change and the number of its kind.
type numbered struct {
	kind int
	Change
}

// publish adds changes and says how far each kind has come.
func (h *history) publish(changes []numbered, s *Snapshot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.all
	for i := range changes {
		h.rings[changes[i].kind].add(changes[i].Change)
		all.add(changes[i].Change)
	}
	for n := range s.kinds {
		h.rings[n].reach(max(s.revision, s.kinds[n].revision))
	}
	all.reach(s.revision)
	if h.waiter != nil {
		close(h.waiter)
		h.waiter = nil
	}
}

// forget makes every watch of the given ring, and of all kinds, end with errs.Gone, for its changes are not known.
func (h *history) forget(kind int, rev int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range []*ring{h.rings[kind], h.all} {
		r.changes, r.first, r.next = nil, r.next+1, r.next+1
		r.forgotten, r.revision = rev, rev
		close(r.wake)
		r.wake = make(chan struct{})
	}
}

func (r *ring) add(c Change) {
	if int(r.next-r.first) == r.max {
		r.forgotten = r.at(r.first).Revision
		r.first++
	}
	if i := int(r.next % uint64(r.max)); i < len(r.changes) {
		r.changes[i] = c
	} else {
		for len(r.changes) < i { // after forget the numbers go on where they were
			r.changes = append(r.changes, Change{})
		}
		r.changes = append(r.changes, c)
	}
	r.next++
}

func (r *ring) at(n uint64) *Change { return &r.changes[n%uint64(r.max)] }

// reach wakes the watches only if there is something for them: a mere revision can wait for their bookmark.
func (r *ring) reach(rev int64) {
	grown := r.next > r.first && r.at(r.next-1).Revision > r.revision
	r.revision = rev
	if grown {
		close(r.wake)
		r.wake = make(chan struct{})
	}
}

// seek finds the number of the first change after revision from.
func (h *history) seek(kind int, from int64) (n uint64, era int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.ring(kind)
	if from < r.forgotten {
		return 0, 0, tooOld(from, r.forgotten)
	}
	n = r.first
	for n < r.next && r.at(n).Revision <= from {
		n++
	}
	return n, r.era, nil
}

// read copies changes from number n on into buf and says which number comes next. When there are none yet, it gives the
// revision up to which that is so, and what to wait for; nothing to wait for when the kind was defined anew since era.
func (h *history) read(kind int, era int, n uint64, buf []Change) (got []Change, rev int64, wake <-chan struct{}, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.ring(kind)
	if n < r.first {
		return nil, 0, nil, tooOld(0, r.forgotten)
	}
	end, wake := r.next, r.wake
	if r.era != era {
		end, wake = r.cut, nil
	}
	for ; n < end && len(buf) < cap(buf); n++ {
		buf = append(buf, *r.at(n))
	}
	return buf, r.revision, wake, nil
}

func tooOld(rev, oldest int64) error {
	if rev == 0 {
		return errs.New(errs.Gone, "the watch fell behind: changes up to revision %d are forgotten", oldest)
	}
	return errs.New(errs.Gone, "too old resource version: %d (%d)", rev, oldest)
}

func (h *history) watch(ctx context.Context, kind int, from int64, bookmark time.Duration) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		n, era, err := h.seek(kind, from)
		if err != nil {
			yield(Change{}, err)
			return
		}
		tick := time.NewTicker(bookmark)
		defer tick.Stop()
		due := false
		var buf [32]Change
		for ctx.Err() == nil {
			got, rev, wake, err := h.read(kind, era, n, buf[:0])
			if err != nil {
				yield(Change{}, err)
				return
			}
			for _, c := range got {
				if c.Revision > from && !yield(c, nil) {
					return
				}
			}
			n += uint64(len(got))
			if len(got) > 0 {
				continue
			}
			if wake == nil {
				return
			}
			if due && rev >= from && !yield(Change{Revision: rev}, nil) {
				return
			}
			due = false
			select {
			case <-wake:
			case <-tick.C:
				due = true
			case <-ctx.Done():
			}
		}
	}
}
