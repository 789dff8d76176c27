// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/backend"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/store"
)

var _ store.Roomy = (*Store)(nil)

// reserve is the part of the quota that only writes which free room may use (store.Freeing): deletions are updates first,
// and etcd itself refuses every update when the quota is reached.
const reserve = 10

// own is what is known of a database in this process.
type own struct {
	backend backend.Backend
	quota   int64

	mu    sync.Mutex // guards what follows
	since int64      // bytes written since the size was exact
}

// size is that of the database with what is written now. The database tells what it had when it last committed, once a
// second; when that could be too old to be trusted it is made to commit.
func (o *own) size(writing int64) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.since += writing
	if size := o.backend.Size(); o.since < (o.quota-size)/reserve {
		return size
	}
	o.backend.ForceCommit()
	o.since = writing
	return o.backend.Size()
}

// admit refuses writes that would use the reserve.
func (s *Store) admit(ctx context.Context, ops []store.Op) error {
	if s.own == nil {
		return nil
	}
	var writing int64
	for i := range ops {
		if !ops[i].Delete {
			writing += int64(len(ops[i].Key) + len(ops[i].Value))
		}
	}
	if writing == 0 {
		return nil
	}
	size := s.own.size(writing)
	if store.IsFreeing(ctx) || size < s.own.quota-s.own.quota/reserve {
		return nil
	}
	return errs.New(store.Full, "the store has %d of at most %d bytes: only deletions are possible until there is room again", size, s.own.quota)
}

// refused wakes who makes room.
func (s *Store) refused() {
	select {
	case s.short <- struct{}{}:
	default: // told already
	}
}

// Short delivers a token when a write was refused for want of room.
func (s *Store) Short() <-chan struct{} { return s.short }

// Room says how full the store is. Of an etcd elsewhere: of its first endpoint that answers.
func (s *Store) Room(ctx context.Context) (store.Room, error) {
	if s.own != nil {
		b := s.own.backend
		r := store.Room{Size: b.Size(), InUse: b.SizeInUse(), Quota: s.own.quota}
		armed, err := s.armed(ctx)
		r.Full = armed || r.Size >= r.Quota-r.Quota/reserve
		return r, err
	}
	var err error
	for _, at := range s.client.Endpoints() {
		st, failed := s.client.Status(ctx, at)
		if failed != nil {
			err = kind("ask for the size", failed)
			continue
		}
		armed, err := s.armed(ctx)
		return store.Room{Size: st.DbSize, InUse: st.DbSizeInUse, Quota: st.DbSizeQuota, Full: armed}, err
	}
	return store.Room{}, err
}

func (s *Store) armed(ctx context.Context) (bool, error) {
	list, err := s.client.AlarmList(ctx)
	if err != nil {
		return false, kind("list alarms", err)
	}
	return len(list.Alarms) > 0, nil
}

// Reclaim defragments a database in this process, which takes about a second for 100 MB, and ends the alarm if there is room
// again. An etcd elsewhere is its owner's.
func (s *Store) Reclaim(ctx context.Context) error {
	if s.own == nil {
		return nil
	}
	b := s.own.backend
	b.ForceCommit()
	if err := b.Defrag(); err != nil {
		return errs.New(errs.Unavailable, "defragment the store: %w", err)
	}
	if b.Size() >= s.own.quota-s.own.quota/reserve {
		return nil
	}
	if armed, err := s.armed(ctx); err != nil || !armed {
		return err
	}
	_, err := s.client.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	return kind("end the alarm", err)
}
