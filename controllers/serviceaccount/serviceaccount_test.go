// SPDX-License-Identifier: Apache-2.0

package serviceaccount

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

func namespace(name string, ending bool) *corev1.Namespace {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"kubernetes"}}}
	if ending {
		now := metav1.NewTime(time.Unix(1, 0))
		ns.DeletionTimestamp = &now
	}
	return ns
}

func TestDecide(t *testing.T) {
	for _, x := range []struct {
		rule string
		s    State
		acts bool
	}{
		{"missing", State{namespace("a", false), false}, true},
		{"there", State{namespace("a", false), true}, false},
		{"an ending namespace takes nothing new", State{namespace("a", true), false}, false},
	} {
		if plan := Decide(x.s); plan.Empty() == x.acts {
			t.Errorf("%s: %s", x.rule, plan)
		}
	}
}

func TestConverges(t *testing.T) {
	has := func(s *cache.Snapshot, ns string) bool {
		_, ok := cache.Get[corev1.ServiceAccount](s, ns, kinds.DefaultAccount)
		return ok
	}
	other := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "builder"}}
	w := reconciletest.New(t.Context(), time.Now, namespace("a", false), namespace("b", false), namespace("ending", true), other)
	reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
	s := w.Cache.Snapshot()
	if !has(s, "a") || !has(s, "b") || has(s, "ending") {
		t.Errorf("a %v, b %v, ending %v; want true, true, false", has(s, "a"), has(s, "b"), has(s, "ending"))
	}
	account, _ := cache.Get[corev1.ServiceAccount](s, "a", kinds.DefaultAccount)
	w.Remove(account)
	reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
	if !has(w.Cache.Snapshot(), "a") {
		t.Error("one that was deleted did not come back")
	}
}
