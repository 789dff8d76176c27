// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
	"github.com/knarr/knarr/state/reconcile"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

// The controller under test keeps for each ConfigMap as many Secrets as its data "n" says, and counts them in "have".
type state struct {
	Map     *corev1.ConfigMap
	Secrets []*corev1.Secret
	rev     int64
}

func copies(watchSeen func(state)) reconcile.Controller {
	return reconcile.Define("copies-controller",
		[]reconcile.Watch{reconcile.Objects[corev1.ConfigMap](), reconcile.OwnedBy[corev1.ConfigMap, corev1.Secret]()},
		func(s *cache.Snapshot, k reconcile.Key, _ time.Time) (state, bool) {
			m, ok := cache.Get[corev1.ConfigMap](s, k.Namespace, k.Name)
			if !ok {
				return state{}, false
			}
			st := state{Map: m, rev: s.Revision()}
			for x := range cache.Owned[corev1.Secret](s, m.UID) {
				st.Secrets = append(st.Secrets, x)
			}
			if watchSeen != nil {
				watchSeen(st)
			}
			return st, true
		}, decide)
}

func decide(s state) reconcile.Plan {
	var p reconcile.Plan
	var n int
	fmt.Sscan(s.Map.Data["n"], &n)
	yes := true
	for range n - len(s.Secrets) {
		p.Actions = append(p.Actions, reconcile.Create{Object: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Map.Namespace, GenerateName: s.Map.Name + "-",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: s.Map.Name, UID: s.Map.UID, Controller: &yes}},
		}}})
	}
	for i := n; i < len(s.Secrets); i++ {
		p.Actions = append(p.Actions, reconcile.Delete{Object: s.Secrets[i]})
	}
	if len(p.Actions) > 0 {
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Batch{Actions: p.Actions}}, Why: "the number of copies is wrong"}
	}
	if have := fmt.Sprint(len(s.Secrets)); s.Map.Data["have"] != have {
		m := s.Map.DeepCopy()
		m.Data["have"] = have
		p.Actions = append(p.Actions, reconcile.Update{Object: m})
	}
	return p
}

func wanted(name string, n int) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name}, Data: map[string]string{"n": fmt.Sprint(n)}}
}

type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) Event(_ kinds.Object, kind, reason, message string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, reason)
}

// run runs controllers on a world inside a bubble of fake time.
func run(t *testing.T, w *reconciletest.World, cs ...reconcile.Controller) *reconcile.Loop {
	log := slog.New(slog.DiscardHandler)
	l := reconcile.New(w.Cache, w, func(string) reconcile.Recorder { return &events{} }, reconcile.Options{}, log, cs...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

func world(t *testing.T, objects ...kinds.Object) *reconciletest.World {
	return reconciletest.New(t.Context(), time.Now, objects...)
}

func secrets(w *reconciletest.World) int { return w.Cache.Snapshot().Len(kinds.For[corev1.Secret]()) }

func TestLoopDoesWhatIsDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t, wanted("x", 3))
		run(t, w, copies(nil))
		synctest.Wait()
		if n := secrets(w); n != 3 {
			t.Fatalf("%d secrets", n)
		}
		w.Put(wanted("y", 2))
		m := wanted("x", 1)
		m.UID = "uid-1"
		w.Put(m)
		synctest.Wait()
		if n := secrets(w); n != 3 {
			t.Errorf("%d secrets after the change", n)
		}
		if m, _ := cache.Get[corev1.ConfigMap](w.Cache.Snapshot(), "a", "y"); m.Data["have"] != "2" {
			t.Errorf("have %q", m.Data["have"])
		}
	})
}

// Law 1: whatever the order and number of changes, what counts is how things are.
func TestLaw1LevelNotEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t)
		run(t, w, copies(nil))
		synctest.Wait()
		w.Lag(true)
		m := wanted("x", 9)
		m.UID = "u"
		w.Put(m)
		for n := range 5 { // many changes arrive as one
			m := wanted("x", n)
			m.UID = "u"
			w.Put(m)
		}
		w.Lag(false)
		synctest.Wait()
		if n := secrets(w); n != 4 {
			t.Errorf("%d secrets, want 4", n)
		}
	})
}

// Law 2: all that observe reads is of one revision, whatever is written meanwhile.
func TestLaw2OneSnapshotAPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t, wanted("x", 1))
		var torn []string
		c := reconcile.Define("reader-controller", []reconcile.Watch{reconcile.Objects[corev1.ConfigMap]()},
			func(s *cache.Snapshot, k reconcile.Key, _ time.Time) (int, bool) {
				before := s.Len(kinds.For[corev1.ConfigMap]())
				w.Put(wanted("another"+k.Name, 0))
				if after := s.Len(kinds.For[corev1.ConfigMap]()); after != before {
					torn = append(torn, k.Name)
				}
				return 0, true
			}, func(int) reconcile.Plan { return reconcile.Plan{} })
		plan, ok := c.Explain(w.Cache.Snapshot(), reconcile.Key{Namespace: "a", Name: "x"}, time.Now())
		if len(torn) > 0 || !ok || !plan.Empty() {
			t.Errorf("torn %v", torn)
		}
	})
}

// Law 3: the cache lags behind the writes, and yet nothing is created twice.
func TestLaw3ReadYourWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t)
		var seen []int
		run(t, w, copies(func(s state) { seen = append(seen, len(s.Secrets)) }))
		synctest.Wait()
		w.Put(wanted("x", 5))
		w.Lag(true) // from now on the cache shows nothing of what is written
		synctest.Wait()
		time.Sleep(time.Second)
		w.Lag(false)
		synctest.Wait()
		if n := secrets(w); n != 5 {
			t.Errorf("%d secrets, want 5", n)
		}
		for _, n := range seen {
			if n != 0 && n != 5 {
				t.Errorf("a pass saw %d of its 5 creations", n)
			}
		}
	})
}

// Law 3 for deletions, whose acknowledgement has no revision.
func TestLaw3ReadYourDeletions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t, wanted("x", 5))
		run(t, w, copies(nil))
		synctest.Wait()
		m := wanted("x", 2)
		m.UID = "uid-1"
		w.Put(m)
		w.Lag(true)
		synctest.Wait()
		time.Sleep(time.Second)
		w.Lag(false)
		synctest.Wait()
		deletions := 0
		for _, l := range w.Log {
			if len(l) > 6 && l[:6] == "delete" {
				deletions++
			}
		}
		if n := secrets(w); n != 2 || deletions != 3 {
			t.Errorf("%d secrets after %d deletions", n, deletions)
		}
	})
}

// Law 4: the first failed action ends the pass; then all is decided anew, after a pause that grows.
func TestLaw4FailureEndsThePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t)
		began := time.Now()
		var tries []time.Duration
		w.Refuse(func(r client.Request) error {
			if r.Verb == client.Create {
				tries = append(tries, time.Since(began))
				return errs.New(errs.Denied, "quota exceeded")
			}
			return nil
		})
		two := reconcile.Define("two-controller", []reconcile.Watch{reconcile.Objects[corev1.ConfigMap]()},
			func(s *cache.Snapshot, k reconcile.Key, _ time.Time) (*corev1.ConfigMap, bool) {
				return cache.Get[corev1.ConfigMap](s, k.Namespace, k.Name)
			},
			func(m *corev1.ConfigMap) reconcile.Plan {
				if m.Data["written"] != "" {
					return reconcile.Plan{}
				}
				c := m.DeepCopy()
				c.Data["written"] = "yes"
				return reconcile.Plan{Actions: []reconcile.Action{
					reconcile.Create{Object: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "s"}}},
					reconcile.Update{Object: c},
				}}
			})
		l := run(t, w, two)
		w.Put(wanted("x", 1))
		time.Sleep(100 * time.Millisecond)
		want := []time.Duration{0, 5 * time.Millisecond, 15 * time.Millisecond, 35 * time.Millisecond, 75 * time.Millisecond}
		synctest.Wait()
		if !slices.Equal(tries, want) {
			t.Errorf("tries after %v, want %v", tries, want)
		}
		if m, _ := cache.Get[corev1.ConfigMap](w.Cache.Snapshot(), "a", "x"); m.Data["written"] != "" {
			t.Error("an action after the failed one was done")
		}
		h := l.Health()
		if len(h) != 1 || !h[0].Degraded || h[0].Why != "a/x: create secret a/s: quota exceeded (5 times)" {
			t.Errorf("health %+v", h)
		}
		w.Refuse(nil)
		time.Sleep(time.Second)
		synctest.Wait()
		if h := l.Health(); h[0].Degraded {
			t.Errorf("health %+v after success", h)
		}
	})
}

// Law 5, with the very function that every controller is tested with.
func TestLaw5DecideConverges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var objects []kinds.Object
		for i := range rapid.IntRange(1, 4).Draw(rt, "maps") {
			objects = append(objects, wanted(fmt.Sprint("m", i), rapid.IntRange(0, 5).Draw(rt, "n")))
		}
		w := reconciletest.New(ctx, time.Now, objects...)
		reconciletest.Converges(rt, w, reconciletest.Check{}, copies(nil))
	})
}

// refuser is a TB that only notes that it failed.
type refuser struct{ failed bool }

func (*refuser) Helper()                 {}
func (r *refuser) Fatalf(string, ...any) { r.failed = true }

func TestConvergesFindsAControllerThatNeverRests(t *testing.T) {
	w := world(t, wanted("x", 1))
	restless := reconcile.Define("restless-controller", []reconcile.Watch{reconcile.Objects[corev1.ConfigMap]()},
		func(s *cache.Snapshot, k reconcile.Key, _ time.Time) (*corev1.ConfigMap, bool) {
			return cache.Get[corev1.ConfigMap](s, k.Namespace, k.Name)
		},
		func(m *corev1.ConfigMap) reconcile.Plan {
			c := m.DeepCopy()
			c.Data["n"] += "x"
			return reconcile.Plan{Actions: []reconcile.Action{reconcile.Update{Object: c}}}
		})
	var r refuser
	reconciletest.Converges(&r, w, reconciletest.Check{}, restless)
	if !r.failed {
		t.Error("Converges did not notice")
	}
}

func TestAgainLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t, wanted("x", 1))
		began := time.Now()
		var at []time.Duration
		c := reconcile.Define("clock-controller", []reconcile.Watch{reconcile.Objects[corev1.ConfigMap]()},
			func(_ *cache.Snapshot, _ reconcile.Key, now time.Time) (time.Time, bool) {
				at = append(at, now.Sub(began))
				return now, true
			}, func(time.Time) reconcile.Plan { return reconcile.Plan{Again: 10 * time.Second} })
		run(t, w, c)
		time.Sleep(25 * time.Second)
		synctest.Wait()
		if want := []time.Duration{0, 10 * time.Second, 20 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("looked at %v, want %v", at, want)
		}
	})
}

func TestExplainAppliesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t, wanted("x", 2))
		log := slog.New(slog.DiscardHandler)
		l := reconcile.New(w.Cache, w, func(string) reconcile.Recorder { return &events{} }, reconcile.Options{}, log, copies(nil))
		p, ok, err := l.Explain("copies-controller", reconcile.Key{Namespace: "a", Name: "x"})
		if err != nil || !ok || p.String() != "{create Secret a/x-*; create Secret a/x-*}" || len(w.Log) != 0 {
			t.Errorf("%q %v %v, wrote %v", p, ok, err, w.Log)
		}
		if _, _, err := l.Explain("nobody", reconcile.Key{}); err == nil {
			t.Error("no error for an unknown controller")
		}
	})
}
