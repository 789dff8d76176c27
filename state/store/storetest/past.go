// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"testing"

	"github.com/knarr/knarr/state/store"
)

func testHistory(t *testing.T, s store.Store) {
	read := func(key string) []string {
		t.Helper()
		p, err := store.History(testContext(t), s, key)
		if err != nil {
			t.Fatal(err)
		}
		out := []string{}
		for _, v := range p.Versions {
			if v.Deleted {
				out = append(out, fmt.Sprintf("%d gone", v.ModRevision))
				continue
			}
			out = append(out, fmt.Sprintf("%d %s", v.ModRevision, v.Value))
		}
		return out
	}
	want(t, "a key that never was", read("/a"), []string{})
	one := put(t, s, "/a", "1")
	put(t, s, "/ab", "other") // shares the prefix
	two := put(t, s, "/a", "2")
	gone := del(t, s, "/a")
	three := put(t, s, "/a", "3")
	put(t, s, "/b", "x")
	all := []string{fmt.Sprint(one, " 1"), fmt.Sprint(two, " 2"), fmt.Sprint(gone, " gone"), fmt.Sprint(three, " 3")}
	want(t, "all of it", read("/a"), all)
	if err := s.Compact(testContext(t), two); err != nil {
		t.Fatal(err)
	}
	want(t, "from the compaction on", read("/a"), all[1:])
	last := del(t, s, "/a")
	if err := s.Compact(testContext(t), gone); err != nil {
		t.Fatal(err)
	}
	want(t, "compacted to its deletion, and deleted again", read("/a"), []string{all[3], fmt.Sprint(last, " gone")})
	oldest, err := s.Oldest(testContext(t))
	want(t, "the oldest revision", []any{oldest, err}, []any{gone, nil})
}
