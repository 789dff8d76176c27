// SPDX-License-Identifier: Apache-2.0

// Package replicaset keeps as many pods of a ReplicaSet as it wants, and as many of a ReplicationController, which is the
// same with a simpler selector (replicationcontroller.go).
//
// It adopts pods that match the selector and belong to nobody, releases its own that stopped matching, makes or deletes
// pods by the difference, and writes the counts into the status. When a
// pod cannot be made (a quota, an admission webhook), the status gets the condition ReplicaFailure, and single pods are tried until one
// can. It does not look at nodes, and does not collect pods
// of a deleted ReplicaSet: package garbage does. It keeps no state; Decide is pure.
package replicaset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	ReplicaSet *appsv1.ReplicaSet
	Owned      []*corev1.Pod // it is their controller
	Orphans    []*corev1.Pod // they match, and nobody is their controller
	Now        time.Time

	// Controller is set where the ReplicaSet stands for an older form of itself, a ReplicationController, which is what
	// owns the pods and has the status.
	Controller *corev1.ReplicationController
}

// owner is who events are about.
func (s *State) owner() kinds.Object {
	if s.Controller != nil {
		return s.Controller
	}
	return s.ReplicaSet
}

func (s *State) ownerRef() metav1.OwnerReference {
	if s.Controller != nil {
		return *metav1.NewControllerRef(s.Controller, corev1.SchemeGroupVersion.WithKind("ReplicationController"))
	}
	return *metav1.NewControllerRef(s.ReplicaSet, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
}

// with is a copy of the owner that has another status.
func (s *State) with(st appsv1.ReplicaSetStatus) kinds.Object {
	if s.Controller != nil {
		c := s.Controller.DeepCopy()
		c.Status = oldStatus(st)
		return c
	}
	c := s.ReplicaSet.DeepCopy()
	c.Status = st
	return c
}

// Controller keeps ReplicaSets.
func Controller() reconcile.Controller {
	return reconcile.Define("replicaset-controller", []reconcile.Watch{
		reconcile.Objects[appsv1.ReplicaSet](),
		reconcile.OwnedBy[appsv1.ReplicaSet, corev1.Pod](),
		reconcile.Mapped(orphaned),
	}, Observe, Decide)
}

// orphaned are the ReplicaSets that may want a pod that belongs to nobody.
func orphaned(s *cache.Snapshot, p *corev1.Pod) []reconcile.Key {
	if metav1.GetControllerOfNoCopy(p) != nil || len(p.Labels) == 0 {
		return nil
	}
	var keys []reconcile.Key
	for rs := range cache.List[appsv1.ReplicaSet](s, p.Namespace) {
		if pods.Matches(rs.Spec.Selector, p.Labels) {
			keys = append(keys, reconcile.Key{Namespace: rs.Namespace, Name: rs.Name})
		}
	}
	return keys
}

// Observe gathers one ReplicaSet and its pods.
func Observe(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
	rs, ok := cache.Get[appsv1.ReplicaSet](s, k.Namespace, k.Name)
	if !ok {
		return State{}, false
	}
	return gather(s, State{ReplicaSet: rs, Now: now}), true
}

// gather adds the pods.
func gather(s *cache.Snapshot, st State) State {
	rs := st.ReplicaSet
	for p := range cache.Owned[corev1.Pod](s, rs.UID) {
		if metav1.IsControlledBy(p, rs) {
			st.Owned = append(st.Owned, p)
		}
	}
	for p := range cache.Indexed[corev1.Pod](s, cache.ByOwner, cache.NoOwner) {
		if p.Namespace == rs.Namespace && pods.Matches(rs.Spec.Selector, p.Labels) {
			st.Orphans = append(st.Orphans, p)
		}
	}
	return st
}
