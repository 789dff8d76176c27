// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/knarr/knarr/internal/errs"
)

// ringSize is how many events are remembered, for subscribers that ask for the past and for slow ones.
const ringSize = 1024

// eventRing keeps the last events. mu guards all; wake is closed and replaced at each event.
type eventRing struct {
	mu   sync.Mutex
	next uint64 // number of the next event
	buf  [ringSize]Event
	wake chan struct{}
}

func newEventRing() *eventRing { return &eventRing{wake: make(chan struct{})} }

func (r *eventRing) publish(ev Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf[r.next%ringSize] = ev
	r.next++
	close(r.wake)
	r.wake = make(chan struct{})
}

// start is the number of the first event at or after since; zero: the next one.
func (r *eventRing) start(since time.Time) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.next
	if since.IsZero() {
		return at
	}
	for at > 0 && r.next-at < ringSize && !r.buf[(at-1)%ringSize].Time.Before(since) {
		at--
	}
	return at
}

// from copies what there is from at on, and answers the channel to wait on when that is nothing.
func (r *eventRing) from(at uint64) ([]Event, chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next-at > ringSize {
		return nil, nil, errs.New(errs.Gone, "events: %d events were missed by a slow reader", r.next-at-ringSize)
	}
	out := make([]Event, 0, r.next-at)
	for ; at < r.next; at++ {
		out = append(out, r.buf[at%ringSize])
	}
	return out, r.wake, nil
}

// Events yields what happened since then (zero: from the call on) and goes on until ctx ends. A subscriber that falls more
// than the ring's size behind gets an error of kind errs.Gone, which ends the sequence.
func (e *Engine) Events(ctx context.Context, since time.Time) iter.Seq2[Event, error] {
	at := e.events.start(since)
	return func(yield func(Event, error) bool) {
		for at := at; ; {
			batch, wake, err := e.events.from(at)
			if err != nil {
				yield(Event{}, err)
				return
			}
			for _, ev := range batch {
				at++
				if !yield(ev, nil) {
					return
				}
			}
			if len(batch) > 0 {
				continue
			}
			select {
			case <-wake:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Publish adds an event of another part of the engine (image, network, volume); Time is filled in when zero.
func (e *Engine) Publish(ev Event) {
	if ev.Time.IsZero() {
		ev.Time = time.Now()
	}
	e.events.publish(ev)
}
