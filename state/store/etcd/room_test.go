// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/knarr/knarr/state/store"
)

// A store of 4 MiB is filled: it says so, still reads and deletes, and takes writes again when there is room.
func TestFullAndBack(t *testing.T) {
	dir := t.TempDir()
	open := func() *Store {
		s, err := OpenEmbedded(t.Context(), Embedded{Dir: dir, Quota: 4 << 20}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	ctx := t.Context()
	value := bytes.Repeat([]byte("x"), 64<<10)
	put := func(ctx context.Context, i int) error {
		_, _, err := s.Txn(ctx, nil, []store.Op{{Key: fmt.Sprintf("/registry/x/%03d", i), Value: value}})
		return err
	}
	fill := func(ctx context.Context, from int) int {
		t.Helper()
		for i := from; i < 1000; i++ {
			switch err := put(ctx, i); {
			case errors.Is(err, store.Full):
				return i
			case err != nil:
				t.Fatal(err)
			}
		}
		t.Fatal("it never got full")
		return 0
	}
	n := fill(ctx, 0)
	m := fill(store.Freeing(ctx), n) // the reserve
	if m == n {
		t.Error("there was no reserve")
	}
	if err := s.Close(); err != nil { // etcd's own alarm outlives the process
		t.Fatal(err)
	}
	s = open()
	defer s.Close()
	if r, err := s.Room(ctx); err != nil || !r.Full {
		t.Fatalf("%+v %v", r, err)
	}
	if _, ok, _, err := s.Get(ctx, "/registry/x/000"); !ok || err != nil {
		t.Fatal("not readable", err)
	}
	told := make(chan bool, 10)
	run, stop := context.WithCancel(ctx)
	ended := make(chan error)
	tick := make(chan time.Time)
	go func() {
		ended <- store.Keeper{Store: s, Log: slog.New(slog.DiscardHandler), Tick: tick, Tell: func(short bool, _ store.Room) { told <- short }}.Run(run)
	}()
	if err := put(ctx, 0); !errors.Is(err, store.Full) {
		t.Fatalf("a write into a full store: %v", err)
	}
	// A tick is taken when the Keeper waits: with the second, it has looked at least once. What it tells is what changed.
	short := false
	look := func() {
		tick <- time.Now()
		tick <- time.Now()
		for {
			select {
			case short = <-told:
			default:
				return
			}
		}
	}
	look()
	if r, err := s.Room(ctx); err != nil || r.Full && !short {
		t.Errorf("full, and nobody was told: %+v %v", r, err)
	}
	for i := range m {
		if _, _, err := s.Txn(ctx, nil, []store.Op{{Key: fmt.Sprintf("/registry/x/%03d", i), Delete: true}}); err != nil {
			t.Fatalf("delete %d: %v", i, err)
		}
	}
	look()
	if short {
		t.Error("told that it is short after all was deleted")
	}
	if err := put(ctx, 0); err != nil {
		t.Fatalf("a write after room was made: %v", err)
	}
	stop()
	<-ended
}
