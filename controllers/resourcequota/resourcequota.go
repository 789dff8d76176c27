// SPDX-License-Identifier: Apache-2.0

// Package resourcequota counts what each namespace uses of its ResourceQuotas.
//
// The API server adds what a write takes to status.used in the transaction of that write; this controller counts everything
// anew when something went away or changed its scope. It counts in one snapshot that holds the quota too, and its write demands
// the quota's resourceVersion of that snapshot: whatever was taken since then changed the quota, so the write fails and the
// count is made again. Usage is therefore never counted too low.
//
// It keeps no state; Decide is pure.
package resourcequota

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Quota   *corev1.ResourceQuota
	Objects []kinds.Object // of the namespace, of every kind
	Now     time.Time
}

// Controller counts.
func Controller() reconcile.Controller {
	watches := []reconcile.Watch{reconcile.Objects[corev1.ResourceQuota](), reconcile.Every(quotasOf, changesUse)}
	return reconcile.Define("resourcequota-controller", watches, Observe, Decide)
}

func quotasOf(s *cache.Snapshot, o kinds.Object) (keys []reconcile.Key) {
	switch o.(type) {
	case *corev1.ResourceQuota, *corev1.Event:
		return nil
	}
	if o.GetNamespace() == "" {
		return nil
	}
	for q := range cache.List[corev1.ResourceQuota](s, o.GetNamespace()) {
		keys = append(keys, reconcile.Key{Namespace: q.Namespace, Name: q.Name})
	}
	return keys
}

// changesUse: most changes of an object leave what it takes as it was.
func changesUse(old, new kinds.Object) bool {
	switch new.(type) {
	case *corev1.Pod, *corev1.Service, *corev1.PersistentVolumeClaim:
	default:
		return false // it counts as one, whatever is in it
	}
	t := kinds.Of(new)
	if (old.GetDeletionTimestamp() == nil) != (new.GetDeletionTimestamp() == nil) {
		return true
	}
	var never time.Time
	return !equality.Semantic.DeepEqual(kinds.Usage(t, old, never), kinds.Usage(t, new, never)) || scoped(old) != scoped(new)
}

// scoped is the part of a pod that scopes select by and that may change.
func scoped(o kinds.Object) bool {
	p, ok := o.(*corev1.Pod)
	return ok && p.Spec.ActiveDeadlineSeconds != nil
}

// Observe gathers the objects that the quota may count.
func Observe(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
	q, ok := cache.Get[corev1.ResourceQuota](s, k.Namespace, k.Name)
	if !ok {
		return State{}, false
	}
	st := State{Quota: q, Now: now}
	for _, t := range s.Types() {
		if t.Cluster || t.Virtual || !limits(q, t) {
			continue
		}
		for e := range s.List(t, k.Namespace) {
			st.Objects = append(st.Objects, e.Object)
		}
	}
	return st, true
}

// limits: some resource of the quota may be taken by objects of t.
func limits(q *corev1.ResourceQuota, t *kinds.Type) bool {
	switch t {
	case kinds.For[corev1.Pod](), kinds.For[corev1.Service](), kinds.For[corev1.PersistentVolumeClaim]():
		return true
	}
	name := t.Plural
	if t.Group != "" {
		name += "." + t.Group
	}
	_, count := q.Spec.Hard[corev1.ResourceName("count/"+name)]
	_, plain := q.Spec.Hard[corev1.ResourceName(t.Plural)]
	return count || plain
}

// Decide writes what is used of what is limited.
func Decide(s State) reconcile.Plan {
	used := corev1.ResourceList{}
	for name := range s.Quota.Spec.Hard {
		used[name] = *resource.NewQuantity(0, resource.DecimalSI)
	}
	var again time.Duration
	for _, o := range s.Objects {
		if !kinds.Measures(s.Quota, o) {
			continue
		}
		for name, q := range kinds.Usage(kinds.Of(o), o, s.Now) {
			have, limited := used[name]
			if !limited {
				continue
			}
			have.Add(q)
			used[name] = have
		}
		if p, ok := o.(*corev1.Pod); ok && p.DeletionTimestamp != nil {
			if left := p.DeletionTimestamp.Sub(s.Now); left > 0 && (again == 0 || left < again) {
				again = left + time.Second
			}
		}
	}
	want := corev1.ResourceQuotaStatus{Hard: s.Quota.Spec.Hard, Used: used}
	if equality.Semantic.DeepEqual(want, s.Quota.Status) {
		return reconcile.Plan{Again: again}
	}
	q := s.Quota.DeepCopy()
	q.Status = *want.DeepCopy()
	return reconcile.Plan{Status: q, Again: again, Why: "what is used is not what is written"}
}
