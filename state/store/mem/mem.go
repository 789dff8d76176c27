// SPDX-License-Identifier: Apache-2.0

// Package mem is the store in memory: the same promises as etcd but durability, for tests and for trying things.
//
// It keeps all versions of all keys until they are compacted. One mutex guards everything; each watch has one goroutine
// that copies from the common log. It has no files.
package mem

import (
	"context"
	"math"
	"sort"
	"strings"
	"sync"

	"github.com/tidwall/btree"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/store"
)

// Store is a store.Store. Make it with New.
type Store struct {
	mu        sync.Mutex // guards all below
	rev       int64
	compacted int64
	keys      btree.Map[string, []version] // ascending by revision
	log       []entry                      // one for each revision since compacted
	changed   chan struct{}                // closed by the next write, compaction, progress request or Close
	progress  int64                        // how often progress was asked for
	closed    bool
	ended     chan struct{} // closed by Close
	watches   sync.WaitGroup
}

var _ store.Store = (*Store)(nil)

// version is what a key was from kv.ModRevision on.
type version struct {
	kv      store.KV
	deleted bool
}

type entry struct {
	rev    int64
	events []store.Event
}

// New makes an empty store at revision 1, as etcd does.
func New() *Store { return &Store{rev: 1, changed: make(chan struct{}), ended: make(chan struct{})} }

// at is the version of a key that holds at a revision.
func at(vs []version, rev int64) (store.KV, bool) {
	i := sort.Search(len(vs), func(i int) bool { return vs[i].kv.ModRevision > rev })
	if i == 0 || vs[i-1].deleted {
		return store.KV{}, false
	}
	return vs[i-1].kv, true
}

func (s *Store) current(key string) (store.KV, bool) {
	vs, _ := s.keys.Get(key)
	return at(vs, math.MaxInt64)
}

func (s *Store) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if s.closed {
		return errs.New(errs.Unavailable, "the store is closed")
	}
	return nil
}

// Get reads one key.
func (s *Store) Get(ctx context.Context, key string) (store.KV, bool, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return store.KV{}, false, 0, err
	}
	kv, ok := s.current(key)
	return kv, ok, s.rev, nil
}

// Range reads the keys that start with prefix.
func (s *Store) Range(ctx context.Context, prefix string, o store.RangeOptions) (store.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return store.Page{}, err
	}
	rev := o.Revision
	switch {
	case rev == 0:
		rev = s.rev
	case rev < s.compacted:
		return store.Page{}, errs.New(errs.Gone, "revision %d has been compacted (%d)", rev, s.compacted)
	case rev > s.rev:
		return store.Page{}, errs.New(errs.Invalid, "revision %d is in the future (%d)", rev, s.rev)
	}
	p := store.Page{Revision: rev}
	if o.Revision == 0 {
		p.Revision = s.rev
	}
	s.keys.Ascend(max(prefix, o.From), func(key string, vs []version) bool {
		if !strings.HasPrefix(key, prefix) {
			return false
		}
		kv, ok := at(vs, rev)
		if !ok {
			return true
		}
		p.Count++
		switch {
		case o.Count:
		case o.Limit > 0 && int64(len(p.KVs)) == o.Limit:
			p.More = true
		default:
			p.KVs = append(p.KVs, kv)
		}
		return true
	})
	return p, nil
}

// Txn applies ops if all conds hold.
func (s *Store) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (int64, []store.KV, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return 0, nil, err
	}
	if err := store.CheckOps(ops); err != nil {
		return 0, nil, err
	}
	var failed []store.KV
	for _, c := range conds {
		kv, _ := s.current(c.Key)
		if kv.ModRevision != c.ModRevision {
			kv.Key = c.Key
			failed = append(failed, kv)
		}
	}
	if len(failed) > 0 {
		return s.rev, failed, nil
	}
	e := entry{rev: s.rev + 1}
	for _, op := range ops {
		s.write(&e, op)
	}
	if len(e.events) > 0 {
		s.rev++
		s.log = append(s.log, e)
		s.wake()
	}
	return s.rev, nil, nil
}

func (s *Store) write(e *entry, op store.Op) {
	old, had := s.current(op.Key)
	if op.Delete && !had {
		return
	}
	ev := store.Event{KV: store.KV{Key: op.Key, ModRevision: e.rev}, Delete: op.Delete}
	if had {
		ev.Prev = &old
		ev.CreateRevision = old.CreateRevision
	} else {
		ev.CreateRevision = e.rev
	}
	if op.Delete {
		ev.CreateRevision = 0
	} else {
		ev.Value = append([]byte{}, op.Value...)
	}
	vs, _ := s.keys.Get(op.Key)
	s.keys.Set(op.Key, append(vs, version{ev.KV, op.Delete}))
	e.events = append(e.events, ev)
}

// wake tells the watches to look again; the mutex is held.
func (s *Store) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Progress asks that every open watch be told how far the store has come.
func (s *Store) Progress(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	s.progress++
	s.wake()
	return nil
}

// Compact forgets history before rev.
func (s *Store) Compact(ctx context.Context, rev int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	switch {
	case rev <= s.compacted:
		return errs.New(errs.Gone, "revision %d has been compacted (%d)", rev, s.compacted)
	case rev > s.rev:
		return errs.New(errs.Invalid, "revision %d is in the future (%d)", rev, s.rev)
	}
	s.compacted = rev
	for _, key := range s.keys.Keys() {
		vs, _ := s.keys.Get(key)
		i := sort.Search(len(vs), func(i int) bool { return vs[i].kv.ModRevision > rev }) - 1
		if i >= 0 && vs[i].deleted {
			i++
		}
		switch {
		case i == len(vs):
			s.keys.Delete(key)
		case i > 0:
			s.keys.Set(key, append([]version(nil), vs[i:]...))
		}
	}
	s.log = append([]entry(nil), s.log[s.after(rev):]...)
	s.wake()
	return nil
}

// Oldest is the revision compacted to.
func (s *Store) Oldest(ctx context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.compacted, 1), s.usable(ctx)
}

// after is the place in the log of the first revision after rev.
func (s *Store) after(rev int64) int {
	return sort.Search(len(s.log), func(i int) bool { return s.log[i].rev > rev })
}

// Close ends all watches.
func (s *Store) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.ended)
		s.wake()
	}
	s.mu.Unlock()
	s.watches.Wait()
	return nil
}
