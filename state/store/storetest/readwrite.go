// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"testing"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/store"
)

func testGet(t *testing.T, s store.Store) {
	ctx := testContext(t)
	_, ok, rev0, err := s.Get(ctx, "/a")
	if err != nil || ok || rev0 < 1 {
		t.Fatalf("get of a missing key: ok %v, rev %d, %v", ok, rev0, err)
	}
	created := put(t, s, "/a", "1")
	want(t, "a write adds one to the revision", created, rev0+1)
	written := put(t, s, "/a", "2")
	kv, ok, rev, err := s.Get(ctx, "/a")
	if err != nil || !ok {
		t.Fatalf("get: ok %v, %v", ok, err)
	}
	want(t, "get", []any{kv.Key, string(kv.Value), kv.CreateRevision, kv.ModRevision, rev}, []any{"/a", "2", created, written, written})
	gone := del(t, s, "/a")
	_, ok, rev, err = s.Get(ctx, "/a")
	want(t, "get after the deletion", []any{ok, rev, err}, []any{false, gone, nil})
	again := put(t, s, "/a", "3")
	kv, _, _, _ = s.Get(ctx, "/a")
	want(t, "a key made again is new", kv.CreateRevision, again)
}

func testTxn(t *testing.T, s store.Store) {
	ctx := testContext(t)
	a := put(t, s, "/a", "1")
	rev, failed, err := s.Txn(ctx, []store.Cond{{Key: "/a", ModRevision: a}, {Key: "/b"}},
		[]store.Op{{Key: "/a", Value: []byte("2")}, {Key: "/b", Value: []byte("2")}})
	want(t, "conditions hold", []any{rev, failed, err}, []any{a + 1, []store.KV{}, nil})

	rev2, failed, err := s.Txn(ctx, []store.Cond{{Key: "/a", ModRevision: a}, {Key: "/b", ModRevision: rev}, {Key: "/c", ModRevision: 7}},
		[]store.Op{{Key: "/b", Value: []byte("3")}, {Key: "/a", Delete: true}})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "a failed transaction takes no revision", rev2, rev)
	want(t, "failed conditions", pairs(failed), []string{"/a=2", "/c="})
	want(t, "their revisions", []int64{failed[0].ModRevision, failed[1].ModRevision}, []int64{rev, 0})
	p, err := s.Range(ctx, "/", store.RangeOptions{})
	want(t, "nothing was written", []any{pairs(p.KVs), err}, []any{[]string{"/a=2", "/b=2"}, nil})

	rev3, failed, err := s.Txn(ctx, nil, []store.Op{{Key: "/nothing", Delete: true}})
	want(t, "deleting nothing", []any{rev3, failed, err}, []any{rev, []store.KV{}, nil})
	rev3, failed, err = s.Txn(ctx, []store.Cond{{Key: "/a", ModRevision: rev}}, []store.Op{{Key: "/a", Delete: true}, {Key: "/c", Value: []byte("3")}})
	want(t, "delete and write at one revision", []any{rev3, failed, err}, []any{rev + 1, []store.KV{}, nil})
	p, _ = s.Range(ctx, "/", store.RangeOptions{})
	want(t, "after it", pairs(p.KVs), []string{"/b=2", "/c=3"})
}

func testTxnRefused(t *testing.T, s store.Store) {
	ctx := testContext(t)
	rev := put(t, s, "/a", "1")
	_, _, err := s.Txn(ctx, nil, []store.Op{{Key: "/b", Value: []byte("1")}, {Key: "/b", Delete: true}})
	wantKind(t, err, errs.Invalid, "writing a key twice")
	_, _, err = s.Txn(ctx, nil, make([]store.Op, store.MaxOps+1))
	wantKind(t, err, errs.TooLarge, "too many writes")
	_, ok, now, _ := s.Get(ctx, "/b")
	want(t, "nothing was written", []any{ok, now}, []any{false, rev})
}

func testRange(t *testing.T, s store.Store) {
	ctx := testContext(t)
	for _, k := range []string{"/p/c", "/p/a", "/q", "/p/b", "/p", "/p0"} {
		put(t, s, k, "1")
	}
	p, err := s.Range(ctx, "/p/", store.RangeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "all", []any{pairs(p.KVs), p.More, p.Count}, []any{[]string{"/p/a=1", "/p/b=1", "/p/c=1"}, false, 3})
	rev := p.Revision

	put(t, s, "/p/aa", "2")
	del(t, s, "/p/c")
	p, err = s.Range(ctx, "/p/", store.RangeOptions{Limit: 2, Revision: rev})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "first page of the old revision", []any{pairs(p.KVs), p.More, p.Revision, p.Count}, []any{[]string{"/p/a=1", "/p/b=1"}, true, rev, 3})
	p, err = s.Range(ctx, "/p/", store.RangeOptions{Limit: 2, Revision: rev, From: p.KVs[1].Key + "\x00"})
	want(t, "second page", []any{pairs(p.KVs), p.More, err}, []any{[]string{"/p/c=1"}, false, nil})
	p, err = s.Range(ctx, "/p/", store.RangeOptions{Count: true})
	want(t, "count now", []any{len(p.KVs), p.Count, p.Revision, err}, []any{0, 3, rev + 2, nil})
	p, err = s.Range(ctx, "/none/", store.RangeOptions{})
	want(t, "nothing there", []any{len(p.KVs), p.More, p.Count, p.Revision, err}, []any{0, false, 0, rev + 2, nil})
}

func testRangeRevisions(t *testing.T, s store.Store) {
	ctx := testContext(t)
	first := put(t, s, "/a", "1")
	last := put(t, s, "/a", "2")
	_, err := s.Range(ctx, "/", store.RangeOptions{Revision: last + 1})
	wantKind(t, err, errs.Invalid, "a future revision")
	if err := s.Compact(ctx, last); err != nil {
		t.Fatal(err)
	}
	_, err = s.Range(ctx, "/", store.RangeOptions{Revision: first})
	wantKind(t, err, errs.Gone, "a compacted revision")
	wantKind(t, s.Compact(ctx, last), errs.Gone, "compacting again")
	wantKind(t, s.Compact(ctx, last+10), errs.Invalid, "compacting the future")
	p, err := s.Range(ctx, "/", store.RangeOptions{Revision: last})
	want(t, "the compacted revision itself", []any{pairs(p.KVs), err}, []any{[]string{"/a=2"}, nil})
}

func testCompactKeeps(t *testing.T, s store.Store) {
	ctx := testContext(t)
	for i := range 20 {
		put(t, s, fmt.Sprintf("/k%02d", i%5), fmt.Sprint(i))
	}
	rev := del(t, s, "/k00")
	if err := s.Compact(ctx, rev); err != nil {
		t.Fatal(err)
	}
	p, err := s.Range(ctx, "/", store.RangeOptions{})
	want(t, "after compaction", []any{pairs(p.KVs), err}, []any{[]string{"/k01=16", "/k02=17", "/k03=18", "/k04=19"}, nil})
	w := watch(t, s, "/", rev)
	next := put(t, s, "/k00", "new")
	want(t, "the watch from the compacted revision goes on", w.next(1), fmt.Sprintf("+/k00=new@%d", next))
}

func testDurable(t *testing.T, open Open) {
	dir := t.TempDir()
	var rev int64
	for round := range 3 {
		s := open(t, dir)
		p, err := s.Range(testContext(t), "/", store.RangeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want(t, "keys after opening", len(p.KVs), round*10)
		if p.Revision < rev {
			t.Fatalf("the revision went back from %d to %d", rev, p.Revision)
		}
		for i := range 10 {
			rev = put(t, s, fmt.Sprintf("/r%d/%d", round, i), "x")
		}
		if round > 0 { // history is there too
			w := watch(t, s, "/", rev-12)
			if got := w.next(12); len(got) == 0 {
				t.Fatal("no history")
			}
			w.cancel()
		}
		if err := s.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
}
