// SPDX-License-Identifier: Apache-2.0

// Package statefulset keeps the pods of a StatefulSet, each with a name, an ordinal and volumes that it finds again.
//
// OrderedReady makes them from the lowest ordinal up, each when the one before works, and deletes from the highest down;
// Parallel does all at once. A new template replaces pods from the highest ordinal down to the partition, as many at a time as maxUnavailable
// says (update.go). Claims are made before their pod and kept or handed to the garbage collector as the retention policy
// says (claim.go). Templates are remembered as ControllerRevisions (package revisions). It keeps no state; Decide is pure.
package statefulset

import (
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/controllers/revisions"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Set      *appsv1.StatefulSet
	Pods     []*corev1.Pod // it is their controller
	Orphans  []*corev1.Pod // they match and are named like its pods, and nobody is their controller
	Claims   map[string]*corev1.PersistentVolumeClaim
	History  revisions.History
	Namesake bool // a revision has the name that a new one would get
	Now      time.Time
}

// Controller keeps StatefulSets.
func Controller() reconcile.Controller {
	return reconcile.Define("statefulset-controller", []reconcile.Watch{
		reconcile.Objects[appsv1.StatefulSet](),
		reconcile.OwnedBy[appsv1.StatefulSet, corev1.Pod](),
		reconcile.OwnedBy[appsv1.StatefulSet, appsv1.ControllerRevision](),
		reconcile.Mapped(orphaned),
	}, Observe, Decide)
}

func orphaned(s *cache.Snapshot, p *corev1.Pod) []reconcile.Key {
	if metav1.GetControllerOfNoCopy(p) != nil || len(p.Labels) == 0 {
		return nil
	}
	name, n := split(p.Name)
	set, ok := cache.Get[appsv1.StatefulSet](s, p.Namespace, name)
	if n < 0 || !ok || !pods.Matches(set.Spec.Selector, p.Labels) {
		return nil
	}
	return []reconcile.Key{{Namespace: p.Namespace, Name: name}}
}

// Observe gathers one StatefulSet.
func Observe(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
	set, ok := cache.Get[appsv1.StatefulSet](s, k.Namespace, k.Name)
	if !ok || pods.MatchesAll(set.Spec.Selector) {
		return State{}, false
	}
	st := State{Set: set, Now: now, History: revisions.Gather(s, set, set.Spec.Selector), Claims: map[string]*corev1.PersistentVolumeClaim{}}
	for p := range cache.Owned[corev1.Pod](s, set.UID) {
		if metav1.IsControlledBy(p, set) {
			st.Pods = append(st.Pods, p)
		}
	}
	for p := range cache.Indexed[corev1.Pod](s, cache.ByOwner, cache.NoOwner) {
		if p.Namespace == set.Namespace && ordinal(set, p) >= 0 && pods.Matches(set.Spec.Selector, p.Labels) {
			st.Orphans = append(st.Orphans, p)
		}
	}
	if len(set.Spec.VolumeClaimTemplates) > 0 {
		for c := range cache.List[corev1.PersistentVolumeClaim](s, set.Namespace) {
			st.Claims[c.Name] = c
		}
	}
	_, st.Namesake = cache.Get[appsv1.ControllerRevision](s, set.Namespace, revisions.Name(set.Name, hash(set)))
	return st, true
}

func hash(set *appsv1.StatefulSet) string {
	return revisions.Hash(revisions.Data(&set.Spec.Template), set.Status.CollisionCount)
}

// split cuts a pod's name into its set's and its ordinal; -1 if there is none.
func split(name string) (set string, ordinal int) {
	i := strings.LastIndexByte(name, '-')
	if i < 0 {
		return "", -1
	}
	n, err := strconv.ParseInt(name[i+1:], 10, 32)
	if err != nil || n < 0 || strconv.Itoa(int(n)) != name[i+1:] {
		return "", -1
	}
	return name[:i], int(n)
}

// ordinal is a pod's in a set; -1 if it is not named like its pods.
func ordinal(set *appsv1.StatefulSet, p *corev1.Pod) int {
	name, n := split(p.Name)
	if name != set.Name {
		return -1
	}
	return n
}

func first(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals == nil {
		return 0
	}
	return int(set.Spec.Ordinals.Start)
}

func replicas(set *appsv1.StatefulSet) int {
	if set.Spec.Replicas == nil {
		return 1
	}
	return int(*set.Spec.Replicas)
}
