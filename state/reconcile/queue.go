// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"container/heap"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/kinds"
)

// queue holds the keys of one controller that are to be looked at, each once, and what the loop must remember of a key
// between two passes. A key that is being worked on is never handed out a second time; if it becomes due meanwhile it is
// handed out again afterwards.
type queue struct {
	mu    sync.Mutex // guards all below
	items map[Key]*item
	due   dueHeap
	wake  chan struct{} // one token: something may be due sooner
}

type item struct {
	key     Key
	at      time.Time // when it is due; zero: it is not
	place   int       // in the heap; -1: not there
	running bool
	again   bool // became due while running
	fails   int
	wrote   wrote
}

// wrote is what a key's last pass wrote: the cache must show it before the next.
type wrote struct {
	rev     int64
	kinds   []*kinds.Type
	deleted []deleted
	since   time.Time
}

// deleted is an object whose deletion was acknowledged: its cached state must differ from what it was.
type deleted struct {
	t   *kinds.Type
	key Key
	uid types.UID
	rev string
}

// The pauses after failures.
const (
	pauseFirst = 5 * time.Millisecond
	pauseMost  = 1000 * time.Second
)

func newQueue() *queue { return &queue{items: map[Key]*item{}, wake: make(chan struct{}, 1)} }

// add makes a key due at t, unless it is due sooner. It cuts the pause of a key that failed short: something has changed.
func (q *queue) add(k Key, t time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := q.items[k]
	if i == nil {
		i = &item{key: k, place: -1}
		q.items[k] = i
	}
	if i.running {
		i.again = true
		return
	}
	q.schedule(i, t)
}

func (q *queue) schedule(i *item, t time.Time) {
	switch {
	case i.place >= 0 && !t.Before(i.at):
		return
	case i.place >= 0:
		i.at = t
		heap.Fix(&q.due, i.place)
	default:
		i.at = t
		heap.Push(&q.due, i)
	}
	if i.place == 0 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// take hands out a key that is due. Else wait says how long until one is; negative: none is.
func (q *queue) take(now time.Time) (i *item, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.due) == 0 {
		return nil, -1
	}
	if d := q.due[0].at.Sub(now); d > 0 {
		return nil, d
	}
	i = heap.Pop(&q.due).(*item)
	i.running, i.again = true, false
	return i, 0
}

// done ends a pass. after > 0: due again then. A key with nothing to remember is forgotten.
func (q *queue) done(i *item, now time.Time, err error, after time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i.running = false
	if err != nil {
		i.fails++
		q.schedule(i, now.Add(pause(i.fails)))
		return
	}
	i.fails = 0
	switch {
	case i.again:
		q.schedule(i, now)
	case after > 0:
		q.schedule(i, now.Add(after))
	case i.wrote.empty():
		delete(q.items, i.key)
	}
}

// later ends a pass that could not begin yet.
func (q *queue) later(i *item, t time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i.running = false
	q.schedule(i, t)
}

func (w *wrote) empty() bool { return w.rev == 0 && len(w.deleted) == 0 }

func pause(fails int) time.Duration {
	d := pauseFirst
	for range fails - 1 {
		if d *= 2; d >= pauseMost {
			return pauseMost
		}
	}
	return d
}

// dueHeap is a container/heap by time.
type dueHeap []*item

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(a, b int) bool { return h[a].at.Before(h[b].at) }
func (h dueHeap) Swap(a, b int) {
	h[a], h[b] = h[b], h[a]
	h[a].place, h[b].place = a, b
}
func (h *dueHeap) Push(x any) {
	i := x.(*item)
	i.place = len(*h)
	*h = append(*h, i)
}
func (h *dueHeap) Pop() any {
	old := *h
	i := old[len(old)-1]
	*h = old[:len(old)-1]
	i.place, i.at = -1, time.Time{}
	return i
}
