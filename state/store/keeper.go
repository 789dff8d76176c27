// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
)

// Keeper compacts a store, so that history does not grow without bound: by time, and within a number of revisions and a
// part of the room there is. Where the store can fill up (Roomy) it also makes room. The zero durations and counts work.
type Keeper struct {
	Store Store
	Log   *slog.Logger
	// Keep is how long history is kept; 0: a day.
	Keep time.Duration
	// Most is how many revisions of history there may be; 0: 200,000. Past it Keep is cut short.
	Most int64
	// File remembers over restarts which revision was written when; "": nobody does, and Keep begins anew.
	File string
	// Tell, if set, hears when the store begins to be short of room, and when there is enough again.
	Tell func(short bool, r Room)
	// Tick, if set, replaces the clock: one look each, at the time it brings.
	Tick <-chan time.Time
}

// Room is how full a store is, in bytes.
type Room struct {
	Size  int64 // of the database, with what could be given back
	InUse int64
	Quota int64 // writes are refused when Size comes near
	Full  bool  // they are
}

// Roomy is a Store that can fill up.
type Roomy interface {
	// Room says how full it is.
	Room(ctx context.Context) (Room, error)
	// Reclaim gives back what compaction freed, and lets writes in again if that was enough. The store does not answer
	// meanwhile.
	Reclaim(ctx context.Context) error
	// Short delivers a token when a write was refused for want of room.
	Short() <-chan struct{}
}

const (
	lookEvery    = time.Minute
	marksPerKeep = 48
	// Shares of the quota: history may have a half; past three quarters room is made; past four fifths it is told.
	historyShare, reclaimShare, warnShare = .5, .75, .8
)

// mark says that Revision was the newest at Time.
type mark struct {
	Revision int64     `json:"revision"`
	Time     time.Time `json:"time"`
}

// marks is the file: version 1.
type marks struct {
	Version int    `json:"version"`
	Marks   []mark `json:"marks"` // oldest first
}

// keeping is what Run knows between two looks.
type keeping struct {
	*Keeper
	marks []mark
	done  int64 // compacted up to here
	short bool
}

// Run compacts until ctx ends.
func (k Keeper) Run(ctx context.Context) error {
	if k.Keep <= 0 {
		k.Keep = 24 * time.Hour
	}
	if k.Most <= 0 {
		k.Most = 200_000
	}
	if k.Tick == nil {
		t := time.NewTicker(min(lookEvery, k.Keep/marksPerKeep))
		defer t.Stop()
		k.Tick = t.C
	}
	on := &keeping{Keeper: &k}
	on.read()
	var short <-chan struct{}
	if r, ok := k.Store.(Roomy); ok {
		short = r.Short()
	}
	for {
		var now time.Time
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case now = <-k.Tick:
		case <-short:
			now = time.Now()
		}
		if err := on.look(ctx, now); err != nil && ctx.Err() == nil {
			k.Log.Warn("keep the store", "err", err)
		}
	}
}

// read takes the marks of the run before. Without them history is kept longer, which harms nobody.
func (k *keeping) read() {
	if k.File == "" {
		return
	}
	var m marks
	err := atomicfile.ReadJSON(k.File, &m)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil || m.Version != 1:
		k.Log.Warn("the times of revisions cannot be read; history is kept longer this time", "file", k.File, "err", err)
	default:
		k.marks = m.Marks
	}
}

// look does what is due at now.
func (k *keeping) look(ctx context.Context, now time.Time) error {
	_, _, rev, err := k.Store.Get(ctx, "/registry/")
	if err != nil {
		return err
	}
	target := max(k.age(rev, now), rev-k.Most)
	roomy, ok := k.Store.(Roomy)
	var room Room
	if ok {
		if room, err = roomy.Room(ctx); err != nil {
			return err
		}
		cut, err := k.cut(ctx, room, rev)
		if err != nil {
			return err
		}
		target = max(target, cut)
	}
	if err := k.compact(ctx, target); err != nil || !ok {
		return err
	}
	return k.makeRoom(ctx, roomy)
}

// age is the newest revision that is older than Keep, and notes that of now.
func (k *keeping) age(rev int64, now time.Time) (old int64) {
	n := len(k.marks)
	if n > 0 && (k.marks[n-1].Revision > rev || k.marks[n-1].Time.After(now)) {
		k.marks, n = nil, 0 // another store, or another clock
	}
	for len(k.marks) > 0 && now.Sub(k.marks[0].Time) >= k.Keep {
		old, k.marks = k.marks[0].Revision, k.marks[1:]
	}
	if n == 0 || len(k.marks) == 0 || now.Sub(k.marks[len(k.marks)-1].Time) >= k.Keep/marksPerKeep {
		k.marks = append(k.marks, mark{rev, now.UTC()})
		if k.File != "" {
			if err := atomicfile.WriteJSON(k.File, marks{1, k.marks}, 0o600); err != nil {
				k.Log.Warn("remember when revisions were written", "err", err)
			}
		}
	}
	return old
}

// cut is up to where history must go for want of room: all of it when the store is full, the older half of it when what is
// used comes to its share.
func (k *keeping) cut(ctx context.Context, room Room, rev int64) (int64, error) {
	switch {
	case room.Full:
		return rev, nil
	case float64(room.InUse) < historyShare*float64(room.Quota):
		return 0, nil
	}
	oldest, err := k.Store.Oldest(ctx)
	return oldest + (rev-oldest)/2, err
}

func (k *keeping) compact(ctx context.Context, target int64) error {
	if target <= k.done {
		return nil
	}
	// Another server of the same etcd may have been first: then it is Gone already.
	if err := k.Store.Compact(ctx, target); err != nil && !errors.Is(err, errs.Gone) {
		return err
	}
	k.done = target
	return nil
}

// makeRoom gives back what is free when the store is near its end, and tells how that went.
func (k *keeping) makeRoom(ctx context.Context, s Roomy) error {
	room, err := s.Room(ctx)
	if err != nil {
		return err
	}
	if room.Quota <= 0 {
		return nil
	}
	of := func(share float64) int64 { return int64(share * float64(room.Quota)) }
	if room.Full || room.Size > of(reclaimShare) && room.Size-room.InUse > room.Size/4 {
		k.Log.Info("making room in the store", "size", room.Size, "used", room.InUse, "quota", room.Quota)
		if err := s.Reclaim(ctx); err != nil {
			return err
		}
		if room, err = s.Room(ctx); err != nil {
			return err
		}
	}
	short := room.Full || room.Size > of(warnShare)
	if short == k.short {
		return nil
	}
	k.short = short
	if k.Tell != nil {
		k.Tell(short, room)
	}
	return nil
}
