// SPDX-License-Identifier: Apache-2.0

package garbage

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

func ref(name string, blocks bool) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: name, UID: types.UID(name), BlockOwnerDeletion: &blocks}
}

func set(name string, finalizers ...string) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Finalizers: finalizers}}
	if len(finalizers) > 0 {
		now := metav1.NewTime(time.Unix(1, 0))
		rs.DeletionTimestamp = &now
	}
	return rs
}

func owned(name string, refs ...metav1.OwnerReference) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), OwnerReferences: refs}}
}

func TestGarbage(t *testing.T) {
	custom := metav1.OwnerReference{APIVersion: "example.com/v1", Kind: "Widget", Name: "w", UID: "w"}
	elsewhere := set("rs")
	elsewhere.Namespace = "other"
	reborn := set("rs")
	reborn.UID = "another"
	for _, x := range []struct {
		rule    string
		objects []kinds.Object
		want    string // what is left, with the owners it has
	}{
		{"an owner that is there keeps it", []kinds.Object{set("rs"), owned("m", ref("rs", true))}, "m<-rs rs"},
		{"no owner is there", []kinds.Object{owned("m", ref("rs", true)), owned("free")}, "free"},
		{"an owner of the same name is another", []kinds.Object{reborn, owned("m", ref("rs", true))}, "rs"},
		{"an owner in another namespace is none", []kinds.Object{elsewhere, owned("m", ref("rs", true))}, "rs"},
		{"one of two is enough", []kinds.Object{set("rs"), owned("m", ref("gone", true), ref("rs", true))}, "m<-rs rs"},
		{"nothing is known of an unknown kind", []kinds.Object{owned("m", custom)}, "m<-w"},
		{"foreground: those that block go first, then the owner", []kinds.Object{set("rs", metav1.FinalizerDeleteDependents), owned("m", ref("rs", true))}, ""},
		{"foreground: those that do not block go with it", []kinds.Object{set("rs", metav1.FinalizerDeleteDependents), owned("m", ref("rs", false))}, ""},
		{"foreground: one with another owner stays", []kinds.Object{set("rs", metav1.FinalizerDeleteDependents), set("two"), owned("m", ref("rs", true), ref("two", true))}, "m<-two two"},
		{"orphan: dependents stay", []kinds.Object{set("rs", metav1.FinalizerOrphanDependents), owned("m", ref("rs", true))}, "m"},
		{"others' finalizers are waited for", []kinds.Object{set("rs", "mine/x"), owned("m", ref("rs", true))}, "m<-rs rs"},
	} {
		t.Run(x.rule, func(t *testing.T) {
			w := reconciletest.New(t.Context(), time.Now, x.objects...)
			reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
			if got := left(w.Cache.Snapshot()); got != x.want {
				t.Errorf("left %q, want %q", got, x.want)
			}
		})
	}
}

func left(s *cache.Snapshot) string {
	var out []string
	for _, t := range s.Types() {
		for e := range s.List(t, "") {
			line := e.Object.GetName()
			for _, r := range e.Object.GetOwnerReferences() {
				line += "<-" + r.Name
			}
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestACircleGoesInTheForeground: three that own each other wait for each other, unless one lets go.
func TestACircleGoesInTheForeground(t *testing.T) {
	yes := true
	one := func(name, owner string) *appsv1.ReplicaSet {
		rs := set(name)
		rs.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner, UID: types.UID(owner), BlockOwnerDeletion: &yes}}
		return rs
	}
	first, now := one("a", "c"), metav1.NewTime(time.Unix(1, 0))
	first.Finalizers, first.DeletionTimestamp = []string{metav1.FinalizerDeleteDependents}, &now
	w := reconciletest.New(t.Context(), time.Now, first, one("b", "a"), one("c", "b"))
	reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
	if got := left(w.Cache.Snapshot()); got != "" {
		t.Errorf("left %q", got)
	}
}

func TestAWholeTreeGoesInTheForeground(t *testing.T) {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "d", UID: "d", Finalizers: []string{metav1.FinalizerDeleteDependents}}}
	now := metav1.NewTime(time.Unix(1, 0))
	d.DeletionTimestamp = &now
	rs := set("rs")
	yes := true
	rs.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "d", UID: "d", BlockOwnerDeletion: &yes}}
	w := reconciletest.New(t.Context(), time.Now, d, rs, owned("m", ref("rs", true)))
	reconciletest.Converges(t, w, reconciletest.Check{Invariant: func(s *cache.Snapshot) error {
		_, owner := cache.Get[appsv1.ReplicaSet](s, "default", "rs")
		_, leaf := cache.Get[corev1.ConfigMap](s, "default", "m")
		_, top := cache.Get[appsv1.Deployment](s, "default", "d")
		if leaf && !owner || owner && !top {
			return errors.New("an owner went before what blocks it")
		}
		return nil
	}}, Controller())
	if got := left(w.Cache.Snapshot()); got != "" {
		t.Errorf("left %q", got)
	}
}
