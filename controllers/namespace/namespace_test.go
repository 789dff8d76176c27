// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

func ending(name string) *corev1.Namespace {
	now := metav1.NewTime(time.Unix(1, 0))
	return &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, DeletionTimestamp: &now},
		Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}},
	}
}

func configMap(namespace, name string, finalizers ...string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Finalizers: finalizers}}
}

func entries(objects ...kinds.Object) []*cache.Entry {
	var out []*cache.Entry
	for _, o := range objects {
		out = append(out, &cache.Entry{Type: kinds.Of(o), Object: o})
	}
	return out
}

func deleted[T kinds.Object](o T) T {
	now := metav1.NewTime(time.Unix(1, 0))
	o.SetDeletionTimestamp(&now)
	return o
}

func TestDecide(t *testing.T) {
	free := ending("a")
	free.Spec.Finalizers = nil
	shared := ending("a")
	shared.Spec.Finalizers = append(shared.Spec.Finalizers, "mine/x")
	many := make([]kinds.Object, burst+7)
	for i := range many {
		many[i] = configMap("a", fmt.Sprint(i))
	}
	for _, x := range []struct {
		rule    string
		ns      *corev1.Namespace
		content []*cache.Entry
		why     string // "": nothing to do
		deletes int
	}{
		{"empty", ending("a"), nil, "it is empty", 0},
		{"empty, and another's finalizer stays", shared, nil, "it is empty", 0},
		{"empty, and ours is gone already", free, nil, "", 0},
		{"what is not ending is deleted", ending("a"), entries(configMap("a", "m"), deleted(configMap("a", "n", "mine/x"))), "2 objects are in it", 1},
		{"no more than a burst at once", ending("a"), entries(many...), fmt.Sprintf("%d objects are in it", len(many)), burst},
		{"what is ending is waited for", ending("a"), entries(deleted(configMap("a", "n", "mine/x"))), "its objects are still ending", 0},
	} {
		plan := Decide(State{Namespace: x.ns, Content: x.content, Now: time.Unix(100, 0)})
		if plan.Why != x.why || plan.Empty() != (x.why == "") {
			t.Errorf("%s: %s %s", x.rule, plan.Why, plan)
		}
		if got := strings.Count(plan.String(), "delete"); got != x.deletes {
			t.Errorf("%s: %d deletions, want %d: %.200s", x.rule, got, x.deletes, plan)
		}
	}
	if len(shared.Spec.Finalizers) != 2 {
		t.Error("Decide changed what it was shown")
	}
}

func TestConditionsSayWhoHoldsIt(t *testing.T) {
	s := State{Namespace: ending("a"), Now: time.Unix(100, 0), Content: entries(deleted(configMap("a", "m", "mine/x")), deleted(configMap("a", "n", "mine/x")))}
	plan := Decide(s)
	ns, ok := plan.Status.(*corev1.Namespace)
	if !ok {
		t.Fatalf("no status: %s", plan)
	}
	text := ""
	for _, c := range ns.Status.Conditions {
		text += fmt.Sprintf("%s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	want := "NamespaceDeletionDiscoveryFailure=False ResourcesDiscovered: All resources successfully discovered\n" +
		"NamespaceDeletionGroupVersionParsingFailure=False ParsedGroupVersions: All legacy kube types successfully parsed\n" +
		"NamespaceDeletionContentFailure=False ContentDeleted: All content successfully deleted, may be waiting on finalization\n" +
		"NamespaceContentRemaining=True SomeResourcesRemain: Some resources are remaining: configmaps has 2 resource instances\n" +
		"NamespaceFinalizersRemaining=True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: mine/x in 2 resource instances\n"
	if text != want {
		t.Errorf("conditions:\n%swant:\n%s", text, want)
	}
	s.Namespace, s.Now = ns, time.Unix(200, 0)
	if again := Decide(s); again.Status != nil {
		t.Errorf("the same once more is written once more: %s", again)
	}
}

func TestConverges(t *testing.T) {
	w := reconciletest.New(t.Context(), time.Now, ending("a"), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "b"}},
		configMap("a", "m"), configMap("a", "held", "mine/x"), configMap("b", "m"),
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}, Spec: corev1.PodSpec{NodeName: "n"}})
	reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
	s := w.Cache.Snapshot()
	if _, ok := cache.Get[corev1.ConfigMap](s, "a", "m"); !ok {
		t.Error("the free one went before the pod")
	}
	if _, ok := cache.Get[corev1.Namespace](s, "", "a"); !ok {
		t.Fatal("it went before its content")
	}
	// The kubelet ends the pod, and the holder lets go.
	p, _ := cache.Get[corev1.Pod](s, "a", "p")
	if p.DeletionTimestamp == nil {
		t.Error("the pod was not told to end")
	}
	w.Remove(p)
	reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
	s = w.Cache.Snapshot()
	if _, ok := cache.Get[corev1.ConfigMap](s, "a", "m"); ok {
		t.Error("the free one is still there")
	}
	held, _ := cache.Get[corev1.ConfigMap](s, "a", "held")
	w.Remove(held)
	reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
	s = w.Cache.Snapshot()
	if _, ok := cache.Get[corev1.Namespace](s, "", "a"); ok {
		t.Error("empty, it stays")
	}
	if _, ok := cache.Get[corev1.ConfigMap](s, "b", "m"); !ok {
		t.Error("another namespace lost its object")
	}
}

func TestOnlyEndingNamespacesAreWoken(t *testing.T) {
	w := reconciletest.New(t.Context(), time.Now, ending("a"), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "b"}})
	s := w.Cache.Snapshot()
	for ns, want := range map[string]int{"a": 1, "b": 0, "missing": 0} {
		if got := inDeleted(s, configMap(ns, "m")); len(got) != want {
			t.Errorf("%s: %v", ns, got)
		}
	}
}
