// SPDX-License-Identifier: Apache-2.0

// Package etcd is the store on etcd: OpenEmbedded runs a single member inside this process, with no socket and no network
// hop; Open connects to a cluster of its own. Behind both is the same Store.
//
// Durability is etcd's: a transaction is acknowledged after its entry is in the write-ahead log and that is synced, one
// fsync for all transactions that were waiting together. Its data folder (member/wal, member/snap/db) is etcd's own format
// of the pinned release, so that etcdutl reads it when the daemon is stopped; docs/formats/store.md says what is in it.
//
// It does not compact by itself: store.Keeper does. Files: etcd.go (reading and writing), watch.go, embed.go, dial.go,
// errors.go (etcd's errors to kinds), log.go (etcd's log to slog).
package etcd

import (
	"context"
	"errors"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/store"
)

// Store is a store.Store. Make it with OpenEmbedded or Open.
type Store struct {
	client *clientv3.Client
	stop   func() // releases what the client talks to
	once   sync.Once
	closed chan struct{}
	short  chan struct{} // a token when a write was refused for want of room
	own    *own          // nil: the database is elsewhere
}

var _ store.Store = (*Store)(nil)

func kvOf(kv *mvccpb.KeyValue) store.KV {
	return store.KV{Key: string(kv.Key), Value: kv.Value, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision}
}

// Get reads one key.
func (s *Store) Get(ctx context.Context, key string) (store.KV, bool, int64, error) {
	r, err := s.client.Get(ctx, key)
	if err != nil {
		return store.KV{}, false, 0, kind("read "+key, err)
	}
	if len(r.Kvs) == 0 {
		return store.KV{}, false, r.Header.Revision, nil
	}
	return kvOf(r.Kvs[0]), true, r.Header.Revision, nil
}

// Range reads the keys that start with prefix.
func (s *Store) Range(ctx context.Context, prefix string, o store.RangeOptions) (store.Page, error) {
	from := max(prefix, o.From)
	opts := []clientv3.OpOption{clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithLimit(o.Limit)}
	if o.Revision != 0 {
		opts = append(opts, clientv3.WithRev(o.Revision))
	}
	if o.Count {
		opts = append(opts, clientv3.WithCountOnly())
	}
	r, err := s.client.Get(ctx, from, opts...)
	if err != nil {
		return store.Page{}, kind("read "+prefix, err)
	}
	p := store.Page{Revision: r.Header.Revision, More: r.More, Count: r.Count, KVs: make([]store.KV, len(r.Kvs))}
	if o.Revision != 0 {
		p.Revision = o.Revision
	}
	for i, kv := range r.Kvs {
		p.KVs[i] = kvOf(kv)
	}
	return p, nil
}

// Txn applies ops if all conds hold.
func (s *Store) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (int64, []store.KV, error) {
	if err := store.CheckOps(ops); err != nil {
		return 0, nil, err
	}
	if err := s.admit(ctx, ops); err != nil {
		s.refused()
		return 0, nil, err
	}
	ifs := make([]clientv3.Cmp, len(conds))
	gets := make([]clientv3.Op, len(conds))
	for i, c := range conds {
		ifs[i] = clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.ModRevision)
		gets[i] = clientv3.OpGet(c.Key)
	}
	thens := make([]clientv3.Op, len(ops))
	for i, op := range ops {
		if op.Delete {
			thens[i] = clientv3.OpDelete(op.Key)
		} else {
			thens[i] = clientv3.OpPut(op.Key, string(op.Value))
		}
	}
	r, err := s.client.Txn(ctx).If(ifs...).Then(thens...).Else(gets...).Commit()
	if err != nil {
		err = kind("write", err)
		if errors.Is(err, store.Full) {
			s.refused()
		}
		return 0, nil, err
	}
	if r.Succeeded {
		return r.Header.Revision, nil, nil
	}
	var failed []store.KV
	for i, c := range conds {
		kv := store.KV{Key: c.Key}
		if kvs := r.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
			kv = kvOf(kvs[0])
		}
		if kv.ModRevision != c.ModRevision {
			failed = append(failed, kv)
		}
	}
	return r.Header.Revision, failed, nil
}

// Progress asks that every open watch be told how far the store has come.
func (s *Store) Progress(ctx context.Context) error {
	return kind("ask for progress", s.client.RequestProgress(ctx))
}

// Compact forgets history before rev.
func (s *Store) Compact(ctx context.Context, rev int64) error {
	_, err := s.client.Compact(ctx, rev, clientv3.WithCompactPhysical())
	return kind("compact", err)
}

// Oldest is the revision compacted to. etcd tells it only to watches that come too late.
func (s *Store) Oldest(ctx context.Context) (int64, error) {
	_, err := s.client.Get(ctx, "/registry/", clientv3.WithRev(1), clientv3.WithKeysOnly())
	if err == nil {
		return 1, nil
	}
	if !errors.Is(kind("", err), errs.Gone) {
		return 0, kind("look for the oldest revision", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for r := range s.client.Watch(ctx, "/registry/", clientv3.WithRev(1)) {
		if r.CompactRevision > 0 {
			return r.CompactRevision, nil
		}
		if err := r.Err(); err != nil {
			return 0, kind("look for the oldest revision", err)
		}
	}
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	return 0, errs.New(errs.Unavailable, "etcd ended the watch")
}

// Close ends the watches and releases the data folder.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closed)
		if err = s.client.Close(); errors.Is(err, context.Canceled) {
			err = nil // how a client without a connection says that it was closed
		}
		s.stop()
	})
	return err
}
