// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"sync"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// Object names one object.
type Object struct {
	Type            *kinds.Type
	Namespace, Name string
}

// singles are the objects that are followed one by one.
type singles struct {
	mu    sync.Mutex // guards what follows
	ctx   context.Context
	wg    *sync.WaitGroup
	feed  func(cache.Batch)
	ended bool
	have  map[Object]*following
	reach map[*kinds.Type]int64 // the revision said last, which must not go back
}

type following struct {
	cancel context.CancelFunc
	read   chan struct{} // closed when the object was read once
	once   sync.Once
}

func (s *singles) begin(ctx context.Context, wg *sync.WaitGroup, feed func(cache.Batch)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx, s.wg, s.feed = ctx, wg, feed
	s.have, s.reach = map[Object]*following{}, map[*kinds.Type]int64{}
}

// end lets nothing new begin.
func (s *singles) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

// Follow has the cache hold the objects, whose kinds are Single selections, and returns when each was read once; one that
// does not exist appears when it is made. It returns at once for what is followed already.
func (l *ListWatch) Follow(ctx context.Context, objects ...Object) error {
	for _, o := range objects {
		f, err := l.following(o)
		if err != nil {
			return err
		}
		select {
		case <-f.read:
		case <-ctx.Done():
			return errs.New(errs.Unavailable, "read %s %s/%s: %w", o.Type.Singular, o.Namespace, o.Name, context.Cause(ctx))
		}
	}
	return nil
}

func (l *ListWatch) following(o Object) (*following, error) {
	s := &l.single
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.feed == nil || s.ended {
		return nil, errs.New(errs.Unavailable, "the API server is not followed")
	}
	if f, ok := s.have[o]; ok {
		return f, nil
	}
	ctx, cancel := context.WithCancel(s.ctx)
	f := &following{cancel: cancel, read: make(chan struct{})}
	s.have[o] = f
	selection := Selection{Type: o.Type, Namespace: o.Namespace, Fields: "metadata.name=" + o.Name}
	s.wg.Go(func() {
		defer cancel()
		l.kind(ctx, selection, func(b cache.Batch) {
			s.say(o, f, b)
			f.once.Do(func() { close(f.read) })
		})
	})
	return f, nil
}

// say hands on what is known of one object: a list of one, or none, is about that object alone. What comes after the object
// was let go is dropped.
func (s *singles) say(o Object, f *following, b cache.Batch) {
	if b.Reset && len(b.Updates) == 0 {
		b.Updates = []cache.Update{{Type: o.Type, Namespace: o.Namespace, Name: o.Name, Revision: b.Revision}}
	}
	b.Reset = false
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have[o] != f {
		return
	}
	s.reach[o.Type] = max(s.reach[o.Type], b.Revision)
	b.Revision = s.reach[o.Type]
	s.feed(b)
}

// Keep ends the following of all objects but those that keep is true for; they leave the cache.
func (l *ListWatch) Keep(keep func(Object) bool) {
	s := &l.single
	s.mu.Lock()
	defer s.mu.Unlock()
	for o, f := range s.have {
		if keep(o) {
			continue
		}
		f.cancel()
		delete(s.have, o)
		s.feed(cache.Batch{Type: o.Type, Revision: max(s.reach[o.Type], 1), Updates: []cache.Update{
			{Type: o.Type, Namespace: o.Namespace, Name: o.Name, Revision: max(s.reach[o.Type], 1)},
		}})
	}
}
