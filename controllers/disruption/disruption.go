// SPDX-License-Identifier: Apache-2.0

// Package disruption says in the status of each PodDisruptionBudget how many of its pods may be evicted now.
//
// The eviction subresource takes one off that number in the transaction of its write and notes the pod in disruptedPods;
// here the note is dropped when the pod is gone, or after two minutes when it did not go. How many pods there should be is
// asked of those who keep them: Deployments, ReplicaSets, ReplicationControllers, StatefulSets. It keeps no state; Decide is pure.
package disruption

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Budget   *policyv1.PodDisruptionBudget
	Pods     []*corev1.Pod
	Expected int // the pods that those who keep Pods want, in all
	Now      time.Time
}

// Controller keeps the status of PodDisruptionBudgets.
func Controller() reconcile.Controller {
	return reconcile.Define("controllermanager", []reconcile.Watch{ // the component that upstream's events name
		reconcile.Objects[policyv1.PodDisruptionBudget](),
		reconcile.Mapped(of),
		reconcile.Mapped(near[appsv1.Deployment]),
		reconcile.Mapped(near[appsv1.ReplicaSet]),
		reconcile.Mapped(near[appsv1.StatefulSet]),
		reconcile.Mapped(near[corev1.ReplicationController]),
	}, Observe, Decide)
}

// of are the budgets of a pod.
func of(s *cache.Snapshot, p *corev1.Pod) []reconcile.Key {
	var keys []reconcile.Key
	for b := range cache.List[policyv1.PodDisruptionBudget](s, p.Namespace) {
		if matches(b, p) {
			keys = append(keys, reconcile.Key{Namespace: b.Namespace, Name: b.Name})
		}
	}
	return keys
}

// near are the budgets that may have pods of an owner.
func near[T any](s *cache.Snapshot, o *T) []reconcile.Key {
	var keys []reconcile.Key
	for b := range cache.List[policyv1.PodDisruptionBudget](s, any(o).(kinds.Object).GetNamespace()) {
		keys = append(keys, reconcile.Key{Namespace: b.Namespace, Name: b.Name})
	}
	return keys
}

// matches: an empty selector selects all pods of the namespace, none selects none.
func matches(b *policyv1.PodDisruptionBudget, p *corev1.Pod) bool {
	sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	return err == nil && sel.Matches(labels.Set(p.Labels))
}

// Observe gathers one budget and its pods.
func Observe(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
	b, ok := cache.Get[policyv1.PodDisruptionBudget](s, k.Namespace, k.Name)
	if !ok {
		return State{}, false
	}
	st := State{Budget: b, Now: now}
	asked := map[types.UID]bool{}
	for p := range cache.List[corev1.Pod](s, b.Namespace) {
		if !matches(b, p) {
			continue
		}
		st.Pods = append(st.Pods, p)
		if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
			uid, n := wanted(s, b.Namespace, ref)
			if !asked[uid] {
				asked[uid] = true
				st.Expected += n
			}
		}
	}
	return st, true
}

// wanted is how many pods an owner wants, and who really decides it.
func wanted(s *cache.Snapshot, ns string, ref *metav1.OwnerReference) (types.UID, int) {
	size := func(n *int32) int {
		if n == nil {
			return 1
		}
		return int(*n)
	}
	switch ref.Kind {
	case "ReplicaSet":
		rs, ok := cache.Get[appsv1.ReplicaSet](s, ns, ref.Name)
		if !ok || rs.UID != ref.UID {
			return ref.UID, 0
		}
		if up := metav1.GetControllerOfNoCopy(rs); up != nil && up.Kind == "Deployment" {
			if d, ok := cache.Get[appsv1.Deployment](s, ns, up.Name); ok && d.UID == up.UID {
				return d.UID, size(d.Spec.Replicas)
			}
		}
		return rs.UID, size(rs.Spec.Replicas)
	case "StatefulSet":
		if o, ok := cache.Get[appsv1.StatefulSet](s, ns, ref.Name); ok && o.UID == ref.UID {
			return o.UID, size(o.Spec.Replicas)
		}
	case "ReplicationController":
		if o, ok := cache.Get[corev1.ReplicationController](s, ns, ref.Name); ok && o.UID == ref.UID {
			return o.UID, size(o.Spec.Replicas)
		}
	}
	return ref.UID, 0
}

// willGo is how long an evicted pod may take to be deleted.
const willGo = 2 * time.Minute

// Decide says what the status should be.
func Decide(s State) reconcile.Plan {
	b := s.Budget
	if b.DeletionTimestamp != nil {
		return reconcile.Plan{}
	}
	var p reconcile.Plan
	st := b.Status.DeepCopy()
	st.DisruptedPods = nil
	healthy := 0
	for _, x := range s.Pods {
		if x.DeletionTimestamp != nil {
			continue
		}
		if at, ok := b.Status.DisruptedPods[x.Name]; ok {
			if left := at.Add(willGo).Sub(s.Now); left > 0 {
				if st.DisruptedPods == nil {
					st.DisruptedPods = map[string]metav1.Time{}
				}
				st.DisruptedPods[x.Name] = at
				if p.Again == 0 || left < p.Again {
					p.Again = left
				}
				continue
			}
			p.Actions = append(p.Actions, reconcile.Event{Regarding: x, Type: corev1.EventTypeWarning, Reason: "NotDeleted",
				Message: fmt.Sprintf("Pod was expected by PDB %s/%s to be deleted but it wasn't", b.Namespace, b.Name)})
		}
		if pods.Ready(x) {
			healthy++
		}
	}
	if len(s.Pods) == 0 {
		p.Actions = append(p.Actions, reconcile.Event{Regarding: b, Type: corev1.EventTypeNormal, Reason: "NoPods", Message: "No matching pods found"})
	}
	expected, desired := aims(&s)
	st.ObservedGeneration = b.Generation
	st.ExpectedPods, st.DesiredHealthy, st.CurrentHealthy = int32(expected), int32(desired), int32(healthy)
	st.DisruptionsAllowed = 0
	if expected > 0 {
		st.DisruptionsAllowed = int32(max(0, healthy-desired))
	}
	c := metav1.Condition{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason,
		ObservedGeneration: b.Generation, LastTransitionTime: metav1.NewTime(s.Now).Rfc3339Copy()}
	if st.DisruptionsAllowed > 0 {
		c.Status, c.Reason = metav1.ConditionTrue, policyv1.SufficientPodsReason
	}
	meta.SetStatusCondition(&st.Conditions, c)
	if !equality.Semantic.DeepEqual(*st, b.Status) {
		n := b.DeepCopy()
		n.Status = *st
		p.Status, p.Why = n, "the counts changed"
	}
	return p
}

// aims are how many pods there should be, and how many of them must be healthy.
func aims(s *State) (expected, desired int) {
	scaled := func(v *intstr.IntOrString) int {
		n, err := intstr.GetScaledValueFromIntOrPercent(v, s.Expected, true)
		if err != nil {
			return s.Expected // nothing may go; validation refuses it
		}
		return n
	}
	switch spec := &s.Budget.Spec; {
	case spec.MaxUnavailable != nil:
		return s.Expected, max(0, s.Expected-scaled(spec.MaxUnavailable))
	case spec.MinAvailable == nil:
		return len(s.Pods), 0
	case spec.MinAvailable.Type == intstr.Int:
		return len(s.Pods), spec.MinAvailable.IntValue()
	default:
		return s.Expected, scaled(spec.MinAvailable)
	}
}
