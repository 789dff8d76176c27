// SPDX-License-Identifier: Apache-2.0

// Package deployment moves a Deployment from the ReplicaSet of its old template to that of its new one.
//
// Each template has one ReplicaSet, named by the template's hash; rolling back is nothing but an old template becoming
// the new one again. Decide scales the old ones down and the new one up within maxSurge and maxUnavailable (rolling.go), or
// all old before the new (recreate.go), spreads a change of replicas over all (scale.go), numbers the revisions
// (revision.go), removes old revisions (history.go), and says in the status how far it is (status.go). Pods are the
// ReplicaSets' business. It keeps no state; Decide is pure.
package deployment

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Deployment *appsv1.Deployment
	Sets       []*appsv1.ReplicaSet // it is their controller; oldest first
	Orphans    []*appsv1.ReplicaSet // they match, and nobody is their controller
	Namesake   *appsv1.ReplicaSet   // whoever's it is: the one with the name that a new one would get
	OldPods    bool                 // with Recreate: pods of ReplicaSets of older templates still run
	Now        time.Time
}

// Controller keeps Deployments.
func Controller() reconcile.Controller {
	return reconcile.Define("deployment-controller", []reconcile.Watch{
		reconcile.Objects[appsv1.Deployment](),
		reconcile.OwnedBy[appsv1.Deployment, appsv1.ReplicaSet](),
		reconcile.Mapped(orphaned),
		reconcile.Mapped(recreating),
	}, Observe, Decide)
}

func orphaned(s *cache.Snapshot, rs *appsv1.ReplicaSet) []reconcile.Key {
	if metav1.GetControllerOfNoCopy(rs) != nil {
		return nil
	}
	var keys []reconcile.Key
	for d := range cache.List[appsv1.Deployment](s, rs.Namespace) {
		if pods.Matches(d.Spec.Selector, rs.Labels) {
			keys = append(keys, reconcile.Key{Namespace: d.Namespace, Name: d.Name})
		}
	}
	return keys
}

// recreating: pods matter to a Deployment only when the new ones wait for the end of the old ones.
func recreating(s *cache.Snapshot, p *corev1.Pod) []reconcile.Key {
	ref := metav1.GetControllerOfNoCopy(p)
	if ref == nil || ref.Kind != "ReplicaSet" {
		return nil
	}
	rs, ok := cache.Get[appsv1.ReplicaSet](s, p.Namespace, ref.Name)
	if !ok {
		return nil
	}
	if ref = metav1.GetControllerOfNoCopy(rs); ref == nil || ref.Kind != "Deployment" {
		return nil
	}
	d, ok := cache.Get[appsv1.Deployment](s, p.Namespace, ref.Name)
	if !ok || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		return nil
	}
	return []reconcile.Key{{Namespace: d.Namespace, Name: d.Name}}
}

// Observe gathers one Deployment and its ReplicaSets.
func Observe(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
	d, ok := cache.Get[appsv1.Deployment](s, k.Namespace, k.Name)
	if !ok {
		return State{}, false
	}
	st := State{Deployment: d, Now: now}
	for rs := range cache.List[appsv1.ReplicaSet](s, d.Namespace) {
		switch {
		case metav1.IsControlledBy(rs, d):
			st.Sets = append(st.Sets, rs)
		case metav1.GetControllerOfNoCopy(rs) == nil && rs.DeletionTimestamp == nil && pods.Matches(d.Spec.Selector, rs.Labels):
			st.Orphans = append(st.Orphans, rs)
		}
	}
	slices.SortStableFunc(st.Sets, older)
	st.Namesake, _ = cache.Get[appsv1.ReplicaSet](s, d.Namespace, setName(d))
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		st.OldPods = oldPods(s, &st)
	}
	return st, true
}

func older(a, b *appsv1.ReplicaSet) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// oldPods: any pod of an older template that has not ended, even if it is being deleted.
func oldPods(s *cache.Snapshot, st *State) bool {
	current := findNew(st.Deployment, st.Sets)
	for _, rs := range st.Sets {
		if rs == current {
			continue
		}
		for p := range cache.Owned[corev1.Pod](s, rs.UID) {
			if !pods.Ended(p) {
				return true
			}
		}
	}
	return false
}
