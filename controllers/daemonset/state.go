// SPDX-License-Identifier: Apache-2.0

// Package daemonset keeps one pod of a DaemonSet on each node that it is meant for.
//
// Which nodes those are is decided here (node.go: selector, affinity, taints), and each pod is tied to its node by an affinity
// to the node's name; the scheduler binds it as any other. A new template replaces pods node by node within maxUnavailable, or
// within maxSurge new before old (update.go), or when somebody deletes them (OnDelete). Templates are remembered as ControllerRevisions
// (package revisions). It keeps no state; Decide is pure.
package daemonset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/naming"
	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/controllers/revisions"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Set      *appsv1.DaemonSet
	Nodes    []*corev1.Node // by name
	Pods     []*corev1.Pod  // it is their controller
	Orphans  []*corev1.Pod  // they match, and nobody is their controller
	History  revisions.History
	Namesake bool // a revision has the name that a new one would get
	Now      time.Time
}

// Controller keeps DaemonSets.
func Controller() reconcile.Controller {
	return reconcile.Define("daemonset-controller", []reconcile.Watch{
		reconcile.Objects[appsv1.DaemonSet](),
		reconcile.OwnedBy[appsv1.DaemonSet, corev1.Pod](),
		reconcile.OwnedBy[appsv1.DaemonSet, appsv1.ControllerRevision](),
		reconcile.Mapped(orphaned),
		reconcile.If(reconcile.Mapped(all), suits),
	}, Observe, Decide)
}

func orphaned(s *cache.Snapshot, p *corev1.Pod) []reconcile.Key {
	if metav1.GetControllerOfNoCopy(p) != nil || len(p.Labels) == 0 {
		return nil
	}
	var keys []reconcile.Key
	for d := range cache.List[appsv1.DaemonSet](s, p.Namespace) {
		if pods.Matches(d.Spec.Selector, p.Labels) {
			keys = append(keys, reconcile.Key{Namespace: d.Namespace, Name: d.Name})
		}
	}
	return keys
}

// all: a node may matter to each.
func all(s *cache.Snapshot, _ *corev1.Node) []reconcile.Key {
	var keys []reconcile.Key
	for d := range cache.List[appsv1.DaemonSet](s, "") {
		keys = append(keys, reconcile.Key{Namespace: d.Namespace, Name: d.Name})
	}
	return keys
}

// Observe gathers one DaemonSet.
func Observe(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
	d, ok := cache.Get[appsv1.DaemonSet](s, k.Namespace, k.Name)
	if !ok || pods.MatchesAll(d.Spec.Selector) {
		return State{}, false
	}
	st := State{Set: d, Now: now, History: revisions.Gather(s, d, d.Spec.Selector)}
	for n := range cache.List[corev1.Node](s, "") {
		st.Nodes = append(st.Nodes, n)
	}
	for p := range cache.Owned[corev1.Pod](s, d.UID) {
		if metav1.IsControlledBy(p, d) {
			st.Pods = append(st.Pods, p)
		}
	}
	for p := range cache.Indexed[corev1.Pod](s, cache.ByOwner, cache.NoOwner) {
		if p.Namespace == d.Namespace && pods.Matches(d.Spec.Selector, p.Labels) {
			st.Orphans = append(st.Orphans, p)
		}
	}
	_, st.Namesake = cache.Get[appsv1.ControllerRevision](s, d.Namespace, revisions.Name(d.Name, templateHash(d)))
	return st, true
}

func templateHash(d *appsv1.DaemonSet) string {
	return naming.TemplateHash(&d.Spec.Template, d.Status.CollisionCount)
}
