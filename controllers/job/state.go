// SPDX-License-Identifier: Apache-2.0

// Package job runs the pods of a Job until enough of them succeeded or too many failed, and removes Jobs whose time to live
// is over.
//
// Each pod carries the finalizer batch.kubernetes.io/job-tracking until it is counted, in three steps of which each may be
// the last before a crash:
//
//	the pod ended            its UID goes into status.uncountedTerminatedPods
//	the UID is written       the finalizer goes
//	the finalizer is gone    the UID becomes one more in succeeded or failed
//
// So no pod counts twice or not at all, whoever deletes it. A Job ends in two steps as well: SuccessCriteriaMet or FailureTarget
// when it is decided, Complete or Failed when its last pod is over.
//
// Files: decide.go (the order of things), count.go (the pods), index.go (sets of indexes), policy.go (podFailurePolicy and
// successPolicy), condition.go, create.go. It keeps no state; Decide is pure. Collecting the pods of a deleted Job is package garbage's.
package job

import (
	"cmp"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Job     *batchv1.Job  // nil: it is gone, and Strays are what it left
	Pods    []*corev1.Pod // it is their controller; by name
	Orphans []*corev1.Pod // they match, and nobody is their controller
	Strays  []*corev1.Pod // they wait for a Job that does not exist
	Now     time.Time
}

// Controller runs Jobs.
func Controller() reconcile.Controller {
	return reconcile.Define("job-controller", []reconcile.Watch{
		reconcile.Objects[batchv1.Job](),
		reconcile.OwnedBy[batchv1.Job, corev1.Pod](),
		reconcile.Mapped(orphaned),
	}, Observe, Decide)
}

// strayPrefix begins keys that name a pod without an owner instead of a Job; no Job's name has it.
const strayPrefix = ":"

func orphaned(s *cache.Snapshot, p *corev1.Pod) []reconcile.Key {
	if metav1.GetControllerOfNoCopy(p) != nil {
		return nil
	}
	var keys []reconcile.Key
	if slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer) {
		keys = append(keys, reconcile.Key{Namespace: p.Namespace, Name: strayPrefix + p.Name})
	}
	if len(p.Labels) == 0 {
		return keys
	}
	for j := range cache.List[batchv1.Job](s, p.Namespace) {
		if pods.Matches(j.Spec.Selector, p.Labels) {
			keys = append(keys, reconcile.Key{Namespace: j.Namespace, Name: j.Name})
		}
	}
	return keys
}

// Observe gathers one Job and its pods.
func Observe(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
	if name, ok := strings.CutPrefix(k.Name, strayPrefix); ok {
		p, ok := cache.Get[corev1.Pod](s, k.Namespace, name)
		if !ok || metav1.GetControllerOfNoCopy(p) != nil {
			return State{}, false
		}
		for j := range cache.List[batchv1.Job](s, p.Namespace) {
			if j.DeletionTimestamp == nil && pods.Matches(j.Spec.Selector, p.Labels) {
				return State{}, false // it will be adopted
			}
		}
		return State{Strays: []*corev1.Pod{p}, Now: now}, true
	}
	st := State{Now: now}
	if j, ok := cache.Get[batchv1.Job](s, k.Namespace, k.Name); ok {
		if by := j.Spec.ManagedBy; by != nil && *by != batchv1.JobControllerName {
			return State{}, false
		}
		st.Job = j
		st.gather(s)
		return st, true
	}
	for p := range cache.List[corev1.Pod](s, k.Namespace) {
		ref := metav1.GetControllerOfNoCopy(p)
		if ref != nil && ref.Kind == "Job" && ref.Name == k.Name && slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer) {
			st.Strays = append(st.Strays, p)
		}
	}
	return st, len(st.Strays) > 0
}

func (st *State) gather(s *cache.Snapshot) {
	j := st.Job
	for p := range cache.Owned[corev1.Pod](s, j.UID) {
		if metav1.IsControlledBy(p, j) {
			st.Pods = append(st.Pods, p)
		}
	}
	slices.SortFunc(st.Pods, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	for p := range cache.Indexed[corev1.Pod](s, cache.ByOwner, cache.NoOwner) {
		if p.Namespace == j.Namespace && pods.Matches(j.Spec.Selector, p.Labels) {
			st.Orphans = append(st.Orphans, p)
		}
	}
}
