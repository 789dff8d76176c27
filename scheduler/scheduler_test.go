// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

type heard struct {
	mu  sync.Mutex
	all []string
}

func (h *heard) Event(regarding kinds.Object, kind, reason, message string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, fmt.Sprintf("%s %s: %s", regarding.GetName(), reason, message))
}

func (h *heard) count(part string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, x := range h.all {
		if strings.Contains(x, part) {
			n++
		}
	}
	return n
}

func start(t *testing.T, objects ...kinds.Object) (*reconciletest.World, *heard) {
	w := reconciletest.New(t.Context(), time.Now, objects...)
	h := &heard{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		New(w.Cache, w, h, slog.New(slog.DiscardHandler)).Run(ctx) //nolint:errcheck // it ends with ctx
	}()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return w, h
}

func nodeOf(w *reconciletest.World, name string) string {
	p, ok := cache.Get[corev1.Pod](w.Cache.Snapshot(), "default", name)
	if !ok {
		return "absent"
	}
	return p.Spec.NodeName
}

func TestManyPodsAtOnceNeverOverfillANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h := start(t, node("a"), node("b"))
		w.Lag(true) // no binding is shown before all are decided
		w.Lag(false)
		for i := range 50 {
			w.Put(pod(fmt.Sprint("p", i), asks("cpu", "100m"))) // 40 of them fit by cpu, 20 by count
		}
		synctest.Wait()
		on := map[string]int{}
		for p := range cache.List[corev1.Pod](w.Cache.Snapshot(), "") {
			on[p.Spec.NodeName]++
		}
		if on["a"] != 10 || on["b"] != 10 || on[""] != 30 {
			t.Errorf("%v", on)
		}
		if n := h.count("Scheduled: Successfully assigned default/p"); n != 20 {
			t.Errorf("%d Scheduled events", n)
		}
	})
}

func TestAssumedPodsCountBeforeTheCacheShowsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := start(t, node("a"))
		for i := range 4 {
			w.Put(pod(fmt.Sprint("p", i), asks("cpu", "1")))
		}
		w.Lag(true)
		synctest.Wait()
		w.Lag(false)
		synctest.Wait()
		bound := 0
		for i := range 4 {
			if nodeOf(w, fmt.Sprint("p", i)) == "a" {
				bound++
			}
		}
		if bound != 2 {
			t.Errorf("%d pods of 1 cpu on a node with 2", bound)
		}
	})
}

func TestAPodThatFitsNowhereSaysSoOnceAndIsPlacedWhenThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h := start(t, node("a", taint("k", "v", corev1.TaintEffectNoSchedule)), node("b"), pod("full", on("b"), asks("cpu", "2")))
		w.Put(pod("p", asks("cpu", "1")))
		synctest.Wait()
		const summary = "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {k: v}."
		p, _ := cache.Get[corev1.Pod](w.Cache.Snapshot(), "default", "p")
		if len(p.Status.Conditions) != 1 {
			t.Fatalf("conditions %v", p.Status.Conditions)
		}
		c := p.Status.Conditions[0]
		if c.Type != corev1.PodScheduled || c.Status != corev1.ConditionFalse || c.Reason != "Unschedulable" || c.Message != summary {
			t.Errorf("condition %+v", c)
		}
		time.Sleep(20 * time.Minute) // it is tried again and again
		synctest.Wait()
		want := "p FailedScheduling: " + summary + " a: node(s) had untolerated taint {k: v}. b: Insufficient cpu."
		if !slices.Equal(h.all, []string{want}) {
			t.Errorf("events %q", h.all)
		}
		full, _ := cache.Get[corev1.Pod](w.Cache.Snapshot(), "default", "full")
		w.Remove(full)
		synctest.Wait()
		if n := nodeOf(w, "p"); n != "" {
			time.Sleep(pauseMost)
		}
		time.Sleep(pauseMost)
		synctest.Wait()
		if n := nodeOf(w, "p"); n != "b" {
			t.Errorf("the pod is on %q", n)
		}
	})
}

func TestANewNodeHelpsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := start(t)
		w.Put(pod("p"))
		synctest.Wait()
		time.Sleep(time.Minute) // its pause is long over
		began := time.Now()
		w.Put(node("a"))
		synctest.Wait()
		if n := nodeOf(w, "p"); n != "a" || time.Since(began) > 0 {
			t.Errorf("on %q after %v", n, time.Since(began))
		}
	})
}

func TestOnlyPodsThatAskForItAreScheduled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := start(t, node("a"))
		w.Put(pod("other", func(p *corev1.Pod) { p.Spec.SchedulerName = "mine" }))
		w.Put(pod("gated", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }))
		synctest.Wait()
		if nodeOf(w, "other") != "" || nodeOf(w, "gated") != "" {
			t.Error("scheduled")
		}
		g := pod("gated")
		w.Put(g)
		synctest.Wait()
		if nodeOf(w, "gated") != "a" {
			t.Error("not scheduled when the gate opened")
		}
	})
}

func TestAFailedBindingIsTriedAgainAndTakesNoRoomMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h := start(t, node("a"))
		w.Refuse(func(r client.Request) error {
			if r.Subresource == "binding" && r.Name == "p" {
				return errs.New(errs.Unavailable, "no")
			}
			return nil
		})
		w.Put(pod("p", asks("cpu", "2")))
		synctest.Wait()
		w.Put(pod("q", asks("cpu", "2")))
		synctest.Wait()
		if nodeOf(w, "q") != "a" || nodeOf(w, "p") != "" {
			t.Errorf("p on %q, q on %q", nodeOf(w, "p"), nodeOf(w, "q"))
		}
		w.Refuse(nil)
		q, _ := cache.Get[corev1.Pod](w.Cache.Snapshot(), "default", "q")
		w.Remove(q)
		time.Sleep(time.Minute)
		synctest.Wait()
		if nodeOf(w, "p") != "a" || h.count("p FailedScheduling: bind to a: no") == 0 {
			t.Errorf("p on %q, events %q", nodeOf(w, "p"), h.all)
		}
	})
}
