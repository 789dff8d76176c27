// SPDX-License-Identifier: Apache-2.0

package podgarbage

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

func pod(name, node string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: node}}
	for _, e := range edit {
		e(p)
	}
	return p
}

func ending(p *corev1.Pod) {
	now := metav1.NewTime(time.Unix(1, 0))
	p.DeletionTimestamp = &now
}

func held(p *corev1.Pod) { p.Finalizers = []string{"mine/x"} }

func TestDecide(t *testing.T) {
	for _, x := range []struct {
		rule string
		s    State
		why  string // "": nothing to do
	}{
		{"on a node that is there", State{pod("p", "n"), true}, ""},
		{"ending on a node that is there is the kubelet's", State{pod("p", "n", ending), true}, ""},
		{"on a node that is gone", State{pod("p", "n"), false}, "its node does not exist"},
		{"waiting for a node", State{pod("p", ""), false}, ""},
		{"ending without a node", State{pod("p", "", ending), false}, "it never had a node"},
		{"ending without a node, held by a finalizer", State{pod("p", "", ending, held), false}, ""},
	} {
		plan := Decide(x.s)
		if plan.Why != x.why || plan.Empty() != (x.why == "") {
			t.Errorf("%s: %s %s", x.rule, plan.Why, plan)
		}
	}
}

func TestConverges(t *testing.T) {
	w := reconciletest.New(t.Context(), time.Now,
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "leaving"}},
		pod("a", "n"), pod("b", "gone"), pod("c", ""), pod("d", "", ending), pod("e", "leaving"))
	reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
	if got := pods(w.Cache.Snapshot()); got != "a c e" {
		t.Errorf("left %q", got)
	}
	leaving, _ := cache.Get[corev1.Node](w.Cache.Snapshot(), "", "leaving")
	w.Remove(leaving)
	reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
	if got := pods(w.Cache.Snapshot()); got != "a c" {
		t.Errorf("after a node went: left %q", got)
	}
}

// TestANodeThatGoesWakesItsPods: nobody touches the pods then, so the node's own change must lead to them.
func TestANodeThatGoesWakesItsPods(t *testing.T) {
	w := reconciletest.New(t.Context(), time.Now, pod("a", "gone"), pod("b", "n"), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}})
	s := w.Cache.Snapshot()
	if got := onNode(s, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "gone"}}); len(got) != 1 || got[0].Name != "a" {
		t.Errorf("a node that is gone: %v", got)
	}
	if got := onNode(s, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}); got != nil {
		t.Errorf("a node that is there: %v", got)
	}
}

func pods(s *cache.Snapshot) string {
	var out []string
	for e := range s.List(kinds.For[corev1.Pod](), "") {
		out = append(out, e.Object.GetName())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}
