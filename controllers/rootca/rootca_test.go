// SPDX-License-Identifier: Apache-2.0

package rootca

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
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

func trust(namespace, cert string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: kinds.RootCA}, Data: map[string]string{"ca.crt": cert}}
}

func TestDecide(t *testing.T) {
	source := trust(metav1.NamespaceSystem, "new")
	for _, x := range []struct {
		rule string
		s    State
		why  string // "": nothing to do
	}{
		{"no certificate yet", State{namespace("a", false), nil, nil}, ""},
		{"no certificate any more: what is there stays", State{namespace("a", false), nil, trust("a", "old")}, ""},
		{"missing", State{namespace("a", false), source, nil}, "the namespace has none"},
		{"an ending namespace takes nothing new", State{namespace("a", true), source, nil}, ""},
		{"as it should be", State{namespace("a", false), source, trust("a", "new")}, ""},
		{"another certificate", State{namespace("a", false), source, trust("a", "old")}, "the certificate changed"},
	} {
		plan := Decide(x.s)
		if plan.Why != x.why || plan.Empty() != (x.why == "") {
			t.Errorf("%s: %s %s", x.rule, plan.Why, plan)
		}
	}
}

func TestConverges(t *testing.T) {
	w := reconciletest.New(t.Context(), time.Now, namespace(metav1.NamespaceSystem, false), namespace("a", false), namespace("b", false),
		trust("b", "somebody's"), trust(metav1.NamespaceSystem, "one"))
	check := func(want string) {
		t.Helper()
		reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
		for _, ns := range []string{metav1.NamespaceSystem, "a", "b"} {
			m, ok := cache.Get[corev1.ConfigMap](w.Cache.Snapshot(), ns, kinds.RootCA)
			if !ok || m.Data["ca.crt"] != want {
				t.Errorf("%s: %v, want %s", ns, m, want)
			}
		}
	}
	check("one")
	w.Put(trust(metav1.NamespaceSystem, "two"))
	check("two")
}

func TestTheSourceConcernsEveryNamespace(t *testing.T) {
	w := reconciletest.New(t.Context(), time.Now, namespace("a", false), namespace("b", false))
	s := w.Cache.Snapshot()
	if got := concerned(s, trust(metav1.NamespaceSystem, "x")); len(got) != 2 {
		t.Errorf("the source: %v", got)
	}
	if got := concerned(s, trust("b", "x")); len(got) != 1 || got[0] != (reconcile.Key{Name: "b"}) {
		t.Errorf("a copy: %v", got)
	}
	if got := concerned(s, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "b", Name: "other"}}); got != nil {
		t.Errorf("another ConfigMap: %v", got)
	}
}
