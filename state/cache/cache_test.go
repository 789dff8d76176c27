// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/store"
	"github.com/knarr/knarr/state/store/mem"
)

var (
	pods     = kinds.For[corev1.Pod]()
	nodes    = kinds.For[corev1.Node]()
	services = kinds.For[corev1.Service]()
	some     = []*kinds.Type{pods, nodes, services}
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func pod(ns, name, node string, owners ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID(ns + name)}, Spec: corev1.PodSpec{NodeName: node}}
	for _, o := range owners {
		p.OwnerReferences = append(p.OwnerReferences, metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: o, UID: types.UID(o)})
	}
	return p
}

// fed is a cache that the test feeds by hand.
func fed(t *testing.T, o Options) *Cache {
	t.Setenv("KNARR_VERIFY", "1")
	c := New(nil, some, o, quiet())
	t.Cleanup(func() {
		if err := c.Verify(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func put(rev int64, p *corev1.Pod) Batch {
	return Batch{Revision: rev, Updates: []Update{{Type: pods, Namespace: p.Namespace, Name: p.Name, Object: p.DeepCopy(), Revision: rev}}}
}

func remove(rev int64, ns, name string) Batch {
	return Batch{Revision: rev, Updates: []Update{{Type: pods, Namespace: ns, Name: name, Revision: rev}}}
}

func names(s *Snapshot, ns string) string {
	var out []string
	for e := range s.List(pods, ns) {
		out = append(out, fmt.Sprintf("%s/%s@%s", e.Object.GetNamespace(), e.Object.GetName(), e.Object.GetResourceVersion()))
	}
	return strings.Join(out, " ")
}

// text writes changes down as the tests compare them.
func text(c Change) string {
	switch {
	case c.Old == nil && c.New == nil:
		return fmt.Sprintf("bookmark@%d", c.Revision)
	case c.Old == nil:
		return fmt.Sprintf("+%s@%s", c.New.Object.GetName(), c.New.Object.GetResourceVersion())
	case c.New == nil:
		return fmt.Sprintf("-%s@%s", c.Old.Object.GetName(), c.Old.Object.GetResourceVersion())
	}
	return fmt.Sprintf("~%s@%d<-%d", c.New.Object.GetName(), c.New.Revision, c.Old.Revision)
}

func TestSnapshotsAreImmutableAndOrdered(t *testing.T) {
	c := fed(t, Options{})
	c.apply(Batch{Reset: true, Revision: 1})
	c.apply(put(2, pod("b", "x", "")))
	c.apply(put(3, pod("a", "y", "")))
	old := c.Snapshot()
	c.apply(put(4, pod("a-b", "z", "")))
	c.apply(put(5, pod("a", "y", "n")))
	c.apply(remove(6, "b", "x"))
	if got, want := names(old, ""), "a/y@3 b/x@2"; got != want {
		t.Errorf("the old snapshot became %q, want %q", got, want)
	}
	s := c.Snapshot()
	// Byte order of "namespace/name", as in etcd: '-' sorts before '/'.
	if got, want := names(s, ""), "a-b/z@4 a/y@5"; got != want {
		t.Errorf("list %q, want %q", got, want)
	}
	if got, want := names(s, "a"), "a/y@5"; got != want {
		t.Errorf("list of a %q, want %q", got, want)
	}
	if s.Revision() != 6 || s.Len(pods) != 2 || s.Len(nodes) != 0 {
		t.Errorf("revision %d, %d pods, %d nodes", s.Revision(), s.Len(pods), s.Len(nodes))
	}
	if p, ok := Get[corev1.Pod](s, "a", "y"); !ok || p.Spec.NodeName != "n" || p.Kind != "Pod" {
		t.Errorf("get %v %v", ok, p)
	}
	var after []string
	for e := range s.ListAfter(pods, "", "a-b", "z") {
		after = append(after, e.Object.GetName())
	}
	if !slices.Equal(after, []string{"y"}) {
		t.Errorf("after a-b/z: %v", after)
	}
}

func TestWatchTellsEachChangeOnceInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(nil, some, Options{}, quiet())
		c.apply(Batch{Reset: true, Revision: 10})
		c.apply(put(11, pod("a", "early", "")))
		var got []string
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for ch, err := range c.Watch(ctx, pods, 10) {
				if err != nil {
					t.Error(err)
				}
				if s := c.Snapshot(); s.Revision() < ch.Revision {
					t.Errorf("told of %d, the snapshot is at %d", ch.Revision, s.Revision())
				}
				got = append(got, text(ch))
			}
		}()
		synctest.Wait()
		c.apply(put(12, pod("a", "early", "n")))
		c.apply(Batch{Revision: 13, Updates: []Update{{Type: nodes, Name: "n", Object: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, Revision: 13}}})
		c.apply(remove(14, "a", "early"))
		c.apply(remove(15, "a", "never was"))
		time.Sleep(61 * time.Second)
		synctest.Wait()
		cancel()
		synctest.Wait()
		want := []string{"+early@11", "~early@12<-11", "-early@14", "bookmark@15"}
		if !slices.Equal(got, want) {
			t.Errorf("changes %v\nwant %v", got, want)
		}
	})
}

func TestWatchThatFallsBehindIsGone(t *testing.T) {
	c := fed(t, Options{History: 4})
	c.apply(Batch{Reset: true, Revision: 1})
	next, stop := iterPull(c.Watch(t.Context(), pods, 1))
	defer stop()
	c.apply(put(2, pod("a", "p2", "")))
	if ch, err := next(); err != nil || text(ch) != "+p2@2" {
		t.Fatalf("%v %v", text(ch), err)
	}
	for rev := int64(3); rev < 10; rev++ {
		c.apply(put(rev, pod("a", fmt.Sprintf("p%d", rev), "")))
	}
	if _, err := next(); !errors.Is(err, errs.Gone) {
		t.Errorf("error %v", err)
	}
	for from, gone := range map[int64]bool{1: true, 4: true, 5: false, 9: false} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		var err error
		n := 0
		for _, e := range c.Watch(ctx, pods, from) {
			if err = e; err == nil {
				n++
			}
		}
		cancel()
		if errors.Is(err, errs.Gone) != gone || (!gone && n != int(9-from)) {
			t.Errorf("from %d: %d changes, error %v, want gone %v", from, n, err, gone)
		}
	}
}

func TestReadingAnewBecomesTheChangesThatWereMissed(t *testing.T) {
	c := fed(t, Options{})
	c.apply(Batch{Reset: true, Revision: 1})
	c.apply(put(2, pod("a", "same", "")))
	c.apply(put(3, pod("a", "changed", "")))
	c.apply(put(4, pod("a", "gone", "")))
	next, stop := iterPull(c.WatchAll(t.Context(), 4))
	defer stop()
	b := Batch{Reset: true, Revision: 9}
	for rev, name := range map[int64]string{2: "same", 8: "changed", 7: "new"} {
		b.Updates = append(b.Updates, Update{Type: pods, Namespace: "a", Name: name, Object: pod("a", name, ""), Revision: rev})
	}
	slices.SortFunc(b.Updates, func(x, y Update) int { return int(x.Revision - y.Revision) })
	c.apply(b)
	for _, want := range []string{"+new@7", "~changed@8<-3", "-gone@9"} {
		ch, err := next()
		if err != nil || text(ch) != want {
			t.Errorf("%s %v, want %s", text(ch), err, want)
		}
	}
	if got, want := names(c.Snapshot(), ""), "a/changed@8 a/new@7 a/same@2"; got != want {
		t.Errorf("list %q, want %q", got, want)
	}
}

func TestAStoreThatWentBackEndsAllWatches(t *testing.T) {
	c := fed(t, Options{})
	c.apply(Batch{Reset: true, Revision: 100})
	next, stop := iterPull(c.Watch(t.Context(), pods, 100))
	defer stop()
	all, stopAll := iterPull(c.WatchAll(t.Context(), 100))
	defer stopAll()
	c.apply(put(101, pod("a", "p", "")))
	for _, n := range []func() (Change, error){next, all} { // both have begun
		if ch, err := n(); err != nil || text(ch) != "+p@101" {
			t.Fatal(text(ch), err)
		}
	}
	c.apply(Batch{Reset: true, Revision: 50})
	if _, err := next(); !errors.Is(err, errs.Gone) {
		t.Errorf("watch: %v", err)
	}
	if _, err := all(); !errors.Is(err, errs.Gone) {
		t.Errorf("watch all: %v", err)
	}
	if c.Snapshot().Revision() != 50 {
		t.Errorf("revision %d", c.Snapshot().Revision())
	}
}

func TestKindsMayAdvanceApart(t *testing.T) {
	c := fed(t, Options{})
	ready := func() bool {
		select {
		case <-c.Ready():
			return true
		default:
			return false
		}
	}
	for i, k := range some {
		if ready() {
			t.Fatal("ready too early")
		}
		c.apply(Batch{Type: k, Reset: true, Revision: int64(10 + i)})
	}
	if !ready() || c.Snapshot().Revision() != 10 {
		t.Fatalf("ready %v, revision %d", ready(), c.Snapshot().Revision())
	}
	c.apply(Batch{Type: pods, Revision: 30, Updates: []Update{{Type: pods, Namespace: "a", Name: "p", Object: pod("a", "p", ""), Revision: 30}}})
	if s := c.Snapshot(); s.Revision() != 11 || s.RevisionOf(pods) != 30 || s.RevisionOf(nodes) != 11 {
		t.Errorf("revisions %d %d %d", s.Revision(), s.RevisionOf(pods), s.RevisionOf(nodes))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := c.Wait(ctx, 30, pods); err != nil {
		t.Errorf("wait for pods: %v", err)
	}
}

func TestEncodedIsMadeOnce(t *testing.T) {
	c := fed(t, Options{})
	c.apply(Batch{Reset: true, Revision: 1})
	c.apply(put(2, pod("a", "p", "")))
	e, _ := c.Snapshot().Get(pods, "a", "p")
	made := 0
	for range 3 {
		b, err := e.Encoded(JSON, func() ([]byte, error) { made++; return []byte("x"), nil })
		if err != nil || string(b) != "x" {
			t.Fatal(b, err)
		}
	}
	if _, err := e.Encoded(Protobuf, func() ([]byte, error) { return nil, errs.Invalid }); err == nil {
		t.Error("the error is lost")
	}
	if made != 1 {
		t.Errorf("made %d times", made)
	}
}

func TestVerifyFindsMutation(t *testing.T) {
	t.Setenv("KNARR_VERIFY", "1")
	c := New(nil, some, Options{}, quiet())
	c.apply(Batch{Reset: true, Revision: 1})
	c.apply(put(2, pod("a", "p", "")))
	if err := c.Verify(); err != nil {
		t.Fatal(err)
	}
	p, _ := Get[corev1.Pod](c.Snapshot(), "a", "p")
	p.Spec.NodeName = "changed"
	if err := c.Verify(); err == nil || !strings.Contains(err.Error(), "Pod a/p") {
		t.Errorf("error %v", err)
	}
}

// TestCacheIsTheStore writes at random to a store and compares the cache, its indexes and its watch with a plain map.
func TestCacheIsTheStore(t *testing.T) {
	t.Setenv("KNARR_VERIFY", "1")
	st := mem.New()
	c := New(FromStore(st, some, nil, quiet()), some, Options{}, quiet())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	defer func() { cancel(); <-done; st.Close() }()
	<-c.Ready()
	seen := map[string]int64{} // what the watch says
	start := c.Snapshot().Revision()
	next, stop := iterPull(c.Watch(ctx, pods, start))
	defer stop()

	rnd := rand.New(rand.NewPCG(1, 2))
	model := map[string]*corev1.Pod{}
	for range 500 {
		p := pod(fmt.Sprintf("ns%d", rnd.IntN(3)), fmt.Sprintf("p%d", rnd.IntN(20)), fmt.Sprintf("n%d", rnd.IntN(3)), fmt.Sprintf("o%d", rnd.IntN(4)))
		key := pods.Key(p.Namespace, p.Name)
		_, exists := model[key]
		op := store.Op{Key: key, Delete: exists && rnd.IntN(2) == 0}
		if op.Delete {
			delete(model, key)
		} else {
			model[key] = p
			var err error
			if op.Value, err = Encode(pods, p); err != nil {
				t.Fatal(err)
			}
		}
		rev, _, err := st.Txn(ctx, nil, []store.Op{op})
		if err != nil {
			t.Fatal(err)
		}
		if rnd.IntN(10) == 0 {
			if _, err := c.Wait(ctx, rev); err != nil {
				t.Fatal(err)
			}
			compare(t, c.Snapshot(), model)
		}
		ch, err := next()
		if err != nil || ch.Revision != rev {
			t.Fatalf("watch: %s %v, want revision %d", text(ch), err, rev)
		}
		if ch.New == nil {
			delete(seen, key)
		} else {
			seen[key] = ch.Revision
		}
	}
	if len(seen) != len(model) {
		t.Errorf("the watch leaves %d pods, there are %d", len(seen), len(model))
	}
	if _, err := st.Range(ctx, "/", store.RangeOptions{}); err != nil {
		t.Fatal(err)
	}
	rev, _, _ := st.Txn(ctx, nil, []store.Op{{Key: "/elsewhere", Value: []byte("x")}})
	s, err := c.Wait(ctx, rev) // nothing moves: it must ask for progress
	if err != nil || s.Revision() < rev {
		t.Errorf("wait: %v", err)
	}
	if err := c.Verify(); err != nil {
		t.Error(err)
	}
}

func compare(t *testing.T, s *Snapshot, model map[string]*corev1.Pod) {
	t.Helper()
	if s.Len(pods) != len(model) {
		t.Fatalf("%d pods, want %d", s.Len(pods), len(model))
	}
	for i := range 4 {
		owner, node := fmt.Sprintf("o%d", i), fmt.Sprintf("n%d", i)
		var owned, onNode int
		for _, p := range model {
			if p.OwnerReferences[0].Name == owner {
				owned++
			}
			if p.Spec.NodeName == node {
				onNode++
			}
		}
		if n := count(Owned[corev1.Pod](s, types.UID(owner))); n != owned {
			t.Fatalf("%d pods of %s, want %d", n, owner, owned)
		}
		if n := count(s.OwnedBy(types.UID(owner))); n != owned {
			t.Fatalf("%d objects of %s, want %d", n, owner, owned)
		}
		if n := count(Indexed[corev1.Pod](s, ByNode, node)); n != onNode {
			t.Fatalf("%d pods on %s, want %d", n, node, onNode)
		}
	}
	for p := range List[corev1.Pod](s, "") {
		m := model[pods.Key(p.Namespace, p.Name)]
		if m == nil || m.Spec.NodeName != p.Spec.NodeName || m.UID != p.UID {
			t.Fatalf("pod %s/%s: %+v, want %+v", p.Namespace, p.Name, p.Spec, m)
		}
	}
}

func TestTheCacheFollowsAStoreThatCompactsUnderIt(t *testing.T) {
	st := mem.New()
	defer st.Close()
	slow := &slowStore{Store: st, hold: make(chan struct{})}
	c := New(FromStore(slow, some, nil, quiet()), some, Options{}, quiet())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	defer func() { cancel(); <-done }()
	<-c.Ready()
	var rev int64
	for i := range 5 {
		v, _ := Encode(pods, pod("a", fmt.Sprint(i), ""))
		rev, _, _ = st.Txn(ctx, nil, []store.Op{{Key: pods.Key("a", fmt.Sprint(i)), Value: v}})
	}
	if err := st.Compact(ctx, rev); err != nil {
		t.Fatal(err)
	}
	close(slow.hold) // only now may the watch begin: what it asks for is compacted
	s, err := c.Wait(ctx, rev)
	if err != nil || s.Len(pods) != 5 {
		t.Fatalf("%v", err)
	}
}

// slowStore lets watches begin only after hold is closed.
type slowStore struct {
	store.Store
	hold chan struct{}
}

func (s *slowStore) Watch(ctx context.Context, prefix string, from int64) (<-chan store.Batch, func() error, error) {
	<-s.hold
	return s.Store.Watch(ctx, prefix, from)
}

func count[T any](seq func(func(T) bool)) int {
	n := 0
	for range seq {
		n++
	}
	return n
}
