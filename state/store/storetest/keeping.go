// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/store"
)

func testKeeper(t *testing.T, s store.Store) {
	file := filepath.Join(t.TempDir(), "marks.json")
	now := time.Now()
	tick := make(chan time.Time)
	var stop func()
	run := func() {
		ctx, cancel := context.WithCancel(testContext(t))
		done := make(chan error)
		k := store.Keeper{Store: s, Log: slog.New(slog.DiscardHandler), Keep: time.Hour, Most: 50, File: file, Tick: tick}
		go func() { done <- k.Run(ctx) }()
		stop = func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
	}
	readable := func(rev int64) bool {
		_, err := s.Range(testContext(t), "/", store.RangeOptions{Revision: rev})
		if err != nil && !errors.Is(err, errs.Gone) {
			t.Fatal(err)
		}
		return err == nil
	}
	look := func(later time.Duration) { // the second tick is taken when the work of the first is done
		now = now.Add(later)
		tick <- now
		tick <- now
	}
	run()
	first := put(t, s, "/a", "0")
	look(0)
	old := put(t, s, "/a", "1")
	look(50 * time.Minute)
	want(t, "young history stays", readable(first-1), true)
	stop()
	run() // what it knew is in the file
	look(15 * time.Minute)
	want(t, "what is older than an hour", []bool{readable(first - 1), readable(first), readable(old)}, []bool{false, true, true})
	for i := range 60 {
		put(t, s, "/a", fmt.Sprint(i))
	}
	look(time.Second)
	want(t, "what is too much", []bool{readable(old), readable(old + 30)}, []bool{false, true})
	stop()
}
