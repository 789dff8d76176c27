// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"iter"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/btree"

	"github.com/knarr/knarr/kinds"
)

// Source tells a Cache what there is and what changes.
type Source interface {
	// Run reads everything and then follows the changes, over every loss of the connection, until ctx ends; it returns
	// ctx's error. It calls feed from one goroutine at a time.
	Run(ctx context.Context, feed func(Batch)) error
	// Progress asks for a batch soon, even if nothing changes.
	Progress(ctx context.Context) error
}

// Batch is what a Source says at once.
type Batch struct {
	Revision int64       // everything up to it has been said
	Type     *kinds.Type // Revision and Reset are about this kind alone; nil: about all kinds
	Reset    bool        // Updates are all there is: what is not among them is gone
	Updates  []Update    // in order
	// Define says which kinds begin, change or end with this batch. For each of those folders Updates has all its objects.
	Define []Redefinition
}

// Redefinition is a kind that was defined while the cache was running.
type Redefinition struct {
	Folder     string            // kinds.Type.Prefix
	Definition *kinds.Definition // nil: it is a kind no more
}

// Update is one object that was written or deleted.
type Update struct {
	Type            *kinds.Type
	Namespace, Name string
	Object          kinds.Object // becomes the Cache's; nil: deleted
	Revision        int64
	CreateRevision  int64
}

// Options of a Cache. The zero value works.
type Options struct {
	History  int           // changes kept of each kind, for watches; 0: 2048. WatchAll has four times as many.
	Bookmark time.Duration // how often a quiet watch is told the revision; 0: a minute
}

// Cache is a Reader fed by a Source. Make it with New.
type Cache struct {
	source   Source
	log      *slog.Logger
	verify   bool
	bookmark time.Duration

	now     atomic.Pointer[Snapshot]
	history *history
	ready   chan struct{}
	once    sync.Once // closes ready
}

var _ Reader = (*Cache)(nil)

// New makes a Cache of the given kinds; it is empty, at revision 0, until Run has read the source once (see Ready).
func New(source Source, types []*kinds.Type, o Options, log *slog.Logger) *Cache {
	if o.History <= 0 {
		o.History = 2048
	}
	if o.Bookmark <= 0 {
		o.Bookmark = time.Minute
	}
	s := &Snapshot{held: newKinds(types)}
	for range types {
		s.kinds = append(s.kinds, table{entries: new(btree.Map[string, *Entry])})
	}
	for range indexed {
		s.indexes = append(s.indexes, new(index))
	}
	c := &Cache{
		source: source, log: log, verify: os.Getenv("KNARR_VERIFY") == "1", bookmark: o.Bookmark,
		history: newHistory(len(types), o.History), ready: make(chan struct{}),
	}
	c.now.Store(s)
	return c
}

// Run feeds the cache until ctx ends.
func (c *Cache) Run(ctx context.Context) error { return c.source.Run(ctx, c.apply) }

// Ready is closed when every kind has been read once.
func (c *Cache) Ready() <-chan struct{} { return c.ready }

// Snapshot is the newest state.
func (c *Cache) Snapshot() *Snapshot { return c.now.Load() }

// How long Wait trusts that the source moves by itself before it asks for progress, and then asks again.
const (
	patience  = 5 * time.Millisecond
	askAgain  = 100 * time.Millisecond
	askWithin = time.Second
)

// Wait blocks until the state of the given kinds (none given: of all) is at revision rev or later.
func (c *Cache) Wait(ctx context.Context, rev int64, of ...*kinds.Type) (*Snapshot, error) {
	if s := c.now.Load(); s.reached(rev, of) {
		return s, nil
	}
	ask := time.NewTimer(patience)
	defer ask.Stop()
	for {
		moved := c.history.moved()
		if s := c.now.Load(); s.reached(rev, of) {
			return s, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-ask.C:
			asking, done := context.WithTimeout(ctx, askWithin)
			// An error here means the store is away; the watch will find out too, and ctx bounds the wait.
			if err := c.source.Progress(asking); err != nil {
				c.log.Debug("ask the source for progress", "err", err)
			}
			done()
			ask.Reset(askAgain)
		}
	}
}

func (s *Snapshot) reached(rev int64, of []*kinds.Type) bool {
	if s.revision >= rev {
		return true
	}
	for _, t := range of {
		if s.RevisionOf(t) < rev {
			return false
		}
	}
	return len(of) > 0
}

// Watch yields the changes of one kind after revision from. A kind the cache does not hold never changes. When a kind is
// defined anew the sequence ends, as if the consumer's time was up.
func (c *Cache) Watch(ctx context.Context, t *kinds.Type, from int64) iter.Seq2[Change, error] {
	n, ok := c.now.Load().held.number[t.Prefix()]
	if !ok {
		return func(func(Change, error) bool) { <-ctx.Done() }
	}
	return c.history.watch(ctx, n, from, c.bookmark)
}

// WatchAll yields the changes of all kinds after revision from.
func (c *Cache) WatchAll(ctx context.Context, from int64) iter.Seq2[Change, error] {
	return c.history.watch(ctx, allKinds, from, c.bookmark)
}
