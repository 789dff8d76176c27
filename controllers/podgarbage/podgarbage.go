// SPDX-License-Identifier: Apache-2.0

// Package podgarbage deletes pods that nobody else will: those on nodes that do not exist, and those being deleted before
// they were given a node. Nobody answers for their containers, so it does not wait for any.
//
// It keeps no state; Decide is pure.
package podgarbage

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Pod  *corev1.Pod
	Node bool // its node exists
}

// Controller deletes such pods.
func Controller() reconcile.Controller {
	return reconcile.Define("pod-garbage-collector", []reconcile.Watch{
		reconcile.If(reconcile.Objects[corev1.Pod](), func(old, new *corev1.Pod) bool {
			return old.Spec.NodeName != new.Spec.NodeName || new.DeletionTimestamp != nil
		}),
		reconcile.If(reconcile.Mapped(onNode), func(_, _ *corev1.Node) bool { return false }),
	}, Observe, Decide)
}

func onNode(s *cache.Snapshot, n *corev1.Node) []reconcile.Key {
	if _, ok := cache.Get[corev1.Node](s, "", n.Name); ok {
		return nil
	}
	var keys []reconcile.Key
	for p := range cache.Indexed[corev1.Pod](s, cache.ByNode, n.Name) {
		keys = append(keys, reconcile.Key{Namespace: p.Namespace, Name: p.Name})
	}
	return keys
}

// Observe looks at one pod.
func Observe(s *cache.Snapshot, k reconcile.Key, _ time.Time) (State, bool) {
	p, ok := cache.Get[corev1.Pod](s, k.Namespace, k.Name)
	if !ok {
		return State{}, false
	}
	_, node := cache.Get[corev1.Node](s, "", p.Spec.NodeName)
	return State{p, node}, true
}

// Decide says what to do with one pod.
func Decide(s State) reconcile.Plan {
	p := s.Pod
	switch {
	case p.Spec.NodeName != "" && !s.Node:
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Delete{Object: p, Now: true}}, Why: "its node does not exist"}
	case p.Spec.NodeName == "" && p.DeletionTimestamp != nil && len(p.Finalizers) == 0:
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Delete{Object: p, Now: true}}, Why: "it never had a node"}
	}
	return reconcile.Plan{}
}
