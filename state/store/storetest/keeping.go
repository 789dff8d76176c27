// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/store"
)

func testKeeper(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(testContext(t))
	tick := make(chan time.Time)
	done := make(chan error)
	k := store.Keeper{Store: s, Log: slog.New(slog.DiscardHandler), Most: 50, Tick: tick}
	go func() { done <- k.Run(ctx) }()
	readable := func(rev int64) bool {
		_, err := s.Range(ctx, "/", store.RangeOptions{Revision: rev})
		if err != nil && !errors.Is(err, errs.Gone) {
			t.Fatal(err)
		}
		return err == nil
	}
	look := func() { // the second tick is taken when the work of the first is done
		tick <- time.Now()
	}
	first := put(t, s, "/a", "0")
	for range 10 {
		look()
	}
	old := put(t, s, "/a", "1")
	want(t, "young history stays", readable(first), true)
	look()
	look()
	want(t, "what is older than ten looks", []bool{readable(first - 1), readable(old)}, []bool{false, true})
	for i := range 60 {
		put(t, s, "/a", fmt.Sprint(i))
	}
	look()
	look()
	want(t, "what is too much", []bool{readable(old), readable(old + 30)}, []bool{false, true})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
