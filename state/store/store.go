// SPDX-License-Identifier: Apache-2.0

// Package store is the revisioned key-value store that all of the cluster's state lives in.
//
// Words. A *revision* is a number that grows by one with each committed transaction that writes; it is the
// resourceVersion of the API. A key's *mod revision* is the one that last wrote it. *Compaction* forgets what happened
// before a revision. Keys are text, values opaque bytes.
//
// It owns the interface and its contract; etcd/ (embedded or remote) and mem/ (tests) implement it and both pass
// storetest.Run. It knows nothing of kinds.
//
// Promises, each with a test in storetest: an acknowledged Txn is durable (etcd) and visible to every later Get and Range;
// Range with a revision reads exactly that revision; a watch delivers every event after its start revision, once, in
// order, all events of one revision in one batch, or ends with errs.Gone. Every method may be called concurrently.
package store

import (
	"context"

	"github.com/knarr/knarr/internal/errs"
)

// KV is one key at one revision. Value is shared: do not write to it.
type KV struct {
	Key            string
	Value          []byte
	CreateRevision int64
	ModRevision    int64
}

// Page is the answer of a Range.
type Page struct {
	KVs      []KV  // ascending by key
	Revision int64 // the revision that was read
	More     bool  // the limit cut it: go on at the last key + "\x00"
	Count    int64 // how many keys the whole range has
}

// RangeOptions narrows a Range. The zero value reads all of it now.
type RangeOptions struct {
	From     string // start here instead of at the prefix itself; must have the prefix
	Limit    int64  // 0: no limit
	Revision int64  // 0: the newest; a compacted one is errs.Gone, a future one errs.Invalid
	Count    bool   // only count
}

// Op is one write of a transaction.
type Op struct {
	Key    string
	Value  []byte // ignored with Delete
	Delete bool
}

// Cond demands that Key was last written at ModRevision; 0 demands that it does not exist.
type Cond struct {
	Key         string
	ModRevision int64
}

// Event is one write seen by a watch.
type Event struct {
	KV     // for a deletion: Key, ModRevision = the deletion's revision, Value nil
	Delete bool
	Prev   *KV // what it replaced; nil for a creation
}

// Batch is everything that happened to the watched prefix up to Revision since the batch before. Without events it is a
// progress mark: nothing happened up to Revision.
type Batch struct {
	Revision int64
	Events   []Event
}

// Store is the contract. Errors wrap the kinds of internal/errs: Unavailable when the store cannot answer now.
type Store interface {
	// Get reads one key; ok is false when it does not exist. rev is the revision that was read.
	Get(ctx context.Context, key string) (kv KV, ok bool, rev int64, err error)
	// Range reads the keys that start with prefix.
	Range(ctx context.Context, prefix string, o RangeOptions) (Page, error)
	// Txn applies ops at one new revision if all conds hold, else nothing. failed is the current state of the keys of
	// conds that did not hold (a missing key has ModRevision 0); it is empty when the transaction was applied. rev is then
	// the new revision, or the current one if the ops had nothing to do (deletions of missing keys). A key may be written
	// once in a transaction (errs.Invalid). After errs.Unavailable it is not known whether the transaction was applied.
	Txn(ctx context.Context, conds []Cond, ops []Op) (rev int64, failed []KV, err error)
	// Watch sends batches for keys with prefix that happen after revision from (0: from now), until ctx ends or the watch
	// is lost; then the channel is closed and the returned function tells why (errs.Gone: from was compacted).
	// A progress mark comes at least once a minute and soon after Progress.
	Watch(ctx context.Context, prefix string, from int64) (<-chan Batch, func() error, error)
	// Progress asks that every open watch be told soon how far the store has come.
	Progress(ctx context.Context) error
	// Compact forgets history before rev: reads of older revisions, and watches that have not come so far, get errs.Gone.
	// So does Compact itself, if it was compacted to rev already; a future rev is errs.Invalid.
	Compact(ctx context.Context, rev int64) error
	// Oldest is the oldest revision that can still be read: the one compacted to, or 1.
	Oldest(ctx context.Context) (int64, error)
	// Close releases what Open took. Open watches end.
	Close() error
}

// The bounds of a transaction.
const (
	MaxOps   = 10_000
	MaxBytes = 8 << 20
)

// CheckOps refuses transactions that the contract forbids. For implementations.
func CheckOps(ops []Op) error {
	if len(ops) > MaxOps {
		return errs.New(errs.TooLarge, "the transaction has %d writes, the limit is %d", len(ops), MaxOps)
	}
	seen := make(map[string]bool, len(ops))
	for _, op := range ops {
		if seen[op.Key] {
			return errs.New(errs.Invalid, "the transaction writes %s twice", op.Key)
		}
		seen[op.Key] = true
	}
	return nil
}
