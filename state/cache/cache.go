// SPDX-License-Identifier: Apache-2.0

// Package cache holds the cluster's objects as immutable typed snapshots with watch: the same table in the API server, the
// controllers, the scheduler, the kubelet, the proxy and dns.
//
// One Source feeds a Cache: the store's own watch over /registry/ (in the API server's process), or list-watch over HTTP
// (elsewhere). Each batch of changes makes a new Snapshot by copying only the paths that changed; readers take the newest
// by one atomic load and never lock. An object's bytes in each encoding are made at most once per revision and shared by
// every GET, LIST and WATCH.
//
// In the same process everybody reads the API server's Cache itself: no second copy, no encoding.
//
// Invariants: a Snapshot and all in it never change; snapshots' revisions only grow; a subscriber sees every change of its
// kinds once, in order, or is told errs.Gone; with KNARR_VERIFY=1 mutated objects are found and reported.
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
	// Wait blocks until the state is at revision rev or later.
	Wait(ctx context.Context, rev int64) (*Snapshot, error)
	// Watch yields the changes of one kind after revision from, in order, until ctx ends or the consumer stops. A consumer
	// that falls behind the bounded history gets an error that wraps errs.Gone as the last element.
	Watch(ctx context.Context, t *kinds.Type, from int64) iter.Seq2[Change, error]
}

// Change is one change of one object. Old is nil for a creation, New for a deletion. Without both it is a bookmark: all
// changes up to Revision have been delivered.
type Change struct {
	Revision int64
	Old, New *Entry
}
