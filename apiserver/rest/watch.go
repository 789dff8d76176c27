// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"iter"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// WatchOptions narrows a watch.
type WatchOptions struct {
	ListOptions
	Bookmarks     bool  // the client understands bookmarks
	InitialEvents *bool // sendInitialEvents
}

// Event is one event of a watch. A Bookmark has no Entry but a Revision.
type Event struct {
	Type     watch.EventType
	Entry    *cache.Entry
	Revision int64
	// More: the next event is there already; a stream need not be flushed yet.
	More bool
	// InitialEnd marks the bookmark after the last of the initial events.
	InitialEnd bool
}

// Watch yields the events of a kind that the options select, until ctx ends. An error is the last element and is to be
// told to the client as an ERROR event; errors before the first event are returned at once.
//
// An object that begins to match the selectors is ADDED, one that ceases to is DELETED with the state it had before.
func (c *Core) Watch(ctx context.Context, t *kinds.Type, namespace string, o WatchOptions) (iter.Seq2[Event, error], error) {
	if err := checkFields(t, o.Fields); err != nil {
		return nil, err
	}
	initial, err := watchInitial(o)
	if err != nil {
		return nil, err
	}
	rev := int64(0)
	if o.ResourceVersion != "" {
		if rev, err = parseRevision(o.ResourceVersion); err != nil {
			return nil, err
		}
	}
	s, err := c.watchFrom(ctx, t, initial, rev, o)
	if err != nil {
		return nil, err
	}
	from := rev
	if initial || from == 0 {
		from = s.Revision()
	}
	f := newFilter(t, namespace, o.ListOptions)
	return func(yield func(Event, error) bool) {
		tell := yield
		yield = func(ev Event, err error) bool {
			if ev.Entry != nil && err == nil {
				if ev.Entry, err = c.inVersion(ctx, t, ev.Entry); err != nil {
					return tell(Event{}, Status(err)) && false
				}
			}
			return tell(ev, err)
		}
		if initial && !initialEvents(s, t, namespace, f, o, yield) {
			return
		}
		for change, err := range c.Cache.Watch(ctx, t, from) {
			if errors.Is(err, errs.Gone) {
				yield(Event{}, Status(apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", from, c.Cache.Snapshot().Revision()))))
				return
			}
			if err != nil {
				yield(Event{}, Status(err))
				return
			}
			if ev, ok := f.event(change); ok && (ev.Type != watch.Bookmark || o.Bookmarks) && !yield(ev, nil) {
				return
			}
		}
	}, nil
}

// watchFrom is the snapshot that a watch starts from.
func (c *Core) watchFrom(ctx context.Context, t *kinds.Type, initial bool, rev int64, o WatchOptions) (*cache.Snapshot, error) {
	if o.ResourceVersion == "" {
		// "Most recent": also what this client wrote a moment ago is past.
		_, _, now, err := c.Store.Get(ctx, t.Prefix())
		if err != nil {
			return nil, err
		}
		return c.Cache.Wait(ctx, now)
	}
	s := c.Cache.Snapshot()
	if initial && rev > s.Revision() {
		return c.waitFuture(ctx, rev)
	}
	return s, nil
}

// watchInitial says whether the state comes first: asked for, or (the old way) implied by no or zero resourceVersion.
func watchInitial(o WatchOptions) (bool, error) {
	bad := func(text string) (bool, error) {
		return false, apierrors.NewGenericServerResponse(422, "watch", noResource, "", "ListOptions.meta.k8s.io \"\" is invalid: "+text, 0, true)
	}
	if o.InitialEvents == nil {
		if o.ResourceVersionMatch != "" {
			return bad("resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
		}
		return o.ResourceVersion == "" || o.ResourceVersion == "0", nil
	}
	if o.ResourceVersionMatch != metav1.ResourceVersionMatchNotOlderThan {
		return bad("resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
	}
	if *o.InitialEvents && !o.Bookmarks {
		return bad("allowWatchBookmarks: Forbidden: sendInitialEvents requires allowWatchBookmarks")
	}
	return *o.InitialEvents, nil
}

func initialEvents(s *cache.Snapshot, t *kinds.Type, namespace string, f filter, o WatchOptions, yield func(Event, error) bool) bool {
	ends := o.InitialEvents != nil && *o.InitialEvents
	var held *cache.Entry
	tell := func(more bool) bool {
		return held == nil || yield(Event{Type: watch.Added, Entry: held, Revision: held.Revision, More: more}, nil)
	}
	for e := range s.List(t, namespace) {
		if !f.matches(e) {
			continue
		}
		if !tell(true) {
			return false
		}
		held = e
	}
	if !tell(ends) {
		return false
	}
	return !ends || yield(Event{Type: watch.Bookmark, Revision: s.Revision(), InitialEnd: true}, nil)
}

// event is what a change is to somebody who sees only what f selects.
func (f filter) event(c cache.Change) (Event, bool) {
	if c.Entry() == nil {
		return Event{Type: watch.Bookmark, Revision: c.Revision}, true
	}
	before, after := f.matches(c.Old), f.matches(c.New)
	ev := Event{Revision: c.Revision}
	switch {
	case before && after:
		ev.Type, ev.Entry = watch.Modified, c.New
	case after:
		ev.Type, ev.Entry = watch.Added, c.New
	case before && c.New == nil:
		ev.Type, ev.Entry = watch.Deleted, c.Old
	case before:
		ev.Type, ev.Entry = watch.Deleted, left(c)
	default:
		return Event{}, false
	}
	return ev, true
}

// left is the state an object had before it ceased to match, at the revision at which it did.
func left(c cache.Change) *cache.Entry {
	obj := copyOf(c.Old.Object)
	obj.SetResourceVersion(c.New.Object.GetResourceVersion())
	return &cache.Entry{Type: c.Old.Type, Object: obj, Revision: c.Revision, CreateRevision: c.Old.CreateRevision}
}
