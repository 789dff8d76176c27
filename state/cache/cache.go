// SPDX-License-Identifier: Apache-2.0

// Package cache holds the cluster's objects as immutable typed snapshots with watch: the same table in the API server, the
// controllers, the scheduler, the kubelet, the proxy and dns.
//
// One Source feeds a Cache: the store's own watch over /registry/ (FromStore, in the API server's process), or list-watch
// over HTTP (client.ListWatch, elsewhere). Each batch of changes makes a new Snapshot by copying only the paths that changed;
// readers take the newest by one atomic load and never lock. An object's bytes in each encoding are made at most once per
// revision and shared by every GET, LIST and WATCH.
//
// In the same process everybody reads the API server's Cache itself: no second copy, no encoding.
//
// Invariants: a Snapshot and all in it never change; snapshots' revisions only grow (but for a server that was restored
// from a backup: then every watch ends with errs.Gone); a subscriber sees every change of its kinds once, in order, or is
// told errs.Gone; a change is visible in Snapshot before any watch tells of it; with KNARR_VERIFY=1 mutated objects are
// found and reported.
//
// Goroutines: Run is the one writer. Files: entry.go (an object and its encodings), kinds.go (which kinds there are), snapshot.go and index.go (reading),
// typed.go (reading by Go type), apply.go (writing), history.go (watching), codec.go (the stored form), storesource.go (the store
// as a source), verify.go.
package cache

import (
	"context"
	"iter"

	"github.com/knarr/knarr/kinds"
)

// Reader is what users of a Cache see; *Cache is the one implementation.
type Reader interface {
	// Snapshot is the newest state. It never blocks.
	Snapshot() *Snapshot
	// Wait blocks until the state of the given kinds (none given: of all) is at revision rev or later.
	Wait(ctx context.Context, rev int64, of ...*kinds.Type) (*Snapshot, error)
	// Watch yields the changes of one kind after revision from, in order, until ctx ends or the consumer stops. A consumer
	// that falls behind the bounded history, or asks for what is before it, gets an error that wraps errs.Gone as the last
	// element. A bookmark comes about once a minute. When ctx ends, so does the sequence, without an error; so it does, after the
	// changes before, when the kind is one defined at runtime and its definition changes.
	Watch(ctx context.Context, t *kinds.Type, from int64) iter.Seq2[Change, error]
	// WatchAll is Watch for all kinds at once, in the order in which the changes arrived.
	WatchAll(ctx context.Context, from int64) iter.Seq2[Change, error]
}

// Change is one change of one object. Old is nil for a creation, New for a deletion. Without both it is a bookmark: all
// changes up to Revision have been delivered.
//
// For a deletion, Old is the object's last state with the deletion's revision as its resourceVersion: what a DELETED watch
// event carries, so that it too is encoded once.
type Change struct {
	Revision int64
	Old, New *Entry
}

// Entry is the object concerned: New, or Old for a deletion; nil for a bookmark.
func (c Change) Entry() *Entry {
	if c.New != nil {
		return c.New
	}
	return c.Old
}
