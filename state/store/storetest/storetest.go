// SPDX-License-Identifier: Apache-2.0

// Package storetest is the conformance suite of store.Store: each promise of the contract is a test that every
// implementation passes by calling Run.
//
// It owns no state; the tests start goroutines and wait for them.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/knarr/knarr/state/store"
)

// Open opens the store that lives in dir; the same dir again is the same store.
type Open func(t *testing.T, dir string) store.Store

// Suite says what to test.
type Suite struct {
	Open    Open
	Durable bool // what was acknowledged is there after closing and opening again
}

// Run runs all tests of the suite.
func Run(t *testing.T, s Suite) {
	for _, x := range []struct {
		name string
		test func(*testing.T, store.Store)
	}{
		{"get tells absence and the revision", testGet},
		{"a transaction writes all or nothing", testTxn},
		{"a transaction that cannot be is refused", testTxnRefused},
		{"range reads a prefix in order, by pages, at one revision", testRange},
		{"range tells future and compacted revisions", testRangeRevisions},
		{"watch is ordered, complete and carries what was before", testWatch},
		{"watch resumes without loss or repetition", testWatchResume},
		{"watch from now begins before it returns", testWatchNow},
		{"watch from a future revision skips what is before", testWatchFuture},
		{"watch sees only its prefix", testWatchPrefix},
		{"a revision arrives in one piece", testWatchAtomic},
		{"progress tells a quiet watch the revision", testProgress},
		{"progress never overtakes events", testProgressOrder},
		{"watch of a compacted revision is gone", testWatchCompacted},
		{"compaction keeps the present", testCompactKeeps},
		{"a watch ends with its context and with the store", testWatchEnds},
		{"concurrent transactions are linearizable", testLinearizable},
		{"history is every version since the compaction", testHistory},
		{"the keeper compacts what is old or too much", testKeeper},
	} {
		t.Run(x.name, func(t *testing.T) {
			st := s.Open(t, t.TempDir())
			t.Cleanup(func() {
				if err := st.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			x.test(t, st)
		})
	}
	if s.Durable {
		t.Run("what was acknowledged is there after opening again", func(t *testing.T) { testDurable(t, s.Open) })
	}
}

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	return ctx
}

// put writes one key whatever it was.
func put(t *testing.T, s store.Store, key, value string) int64 {
	t.Helper()
	rev, failed, err := s.Txn(testContext(t), nil, []store.Op{{Key: key, Value: []byte(value)}})
	if err != nil || len(failed) > 0 {
		t.Fatalf("put %s: %v, failed %v", key, err, failed)
	}
	return rev
}

func del(t *testing.T, s store.Store, key string) int64 {
	t.Helper()
	rev, failed, err := s.Txn(testContext(t), nil, []store.Op{{Key: key, Delete: true}})
	if err != nil || len(failed) > 0 {
		t.Fatalf("delete %s: %v, failed %v", key, err, failed)
	}
	return rev
}

func wantKind(t *testing.T, err, kind error, what string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: error %v, want kind %q", what, err, kind)
	}
}

// want compares what Sprint makes of two values.
func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func pairs(kvs []store.KV) []string {
	out := []string{}
	for _, kv := range kvs {
		out = append(out, kv.Key+"="+string(kv.Value))
	}
	return out
}
