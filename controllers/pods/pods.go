// SPDX-License-Identifier: Apache-2.0

// Package pods says what controllers ask of a pod: is it active, ready, available, whose is it; and makes one from a
// template. All of it is pure.
//
// It keeps no state and starts nothing.
package pods

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Active: it counts as a replica, for it neither ended nor is being deleted.
func Active(p *corev1.Pod) bool { return !Ended(p) && p.DeletionTimestamp == nil }

// Ended: all its containers have, for good.
func Ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// Condition finds a condition; nil if there is none.
func Condition(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// Ready is the pod's Ready condition.
func Ready(p *corev1.Pod) bool {
	c := Condition(p, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// Available: ready for at least minReady seconds. If it is ready but not that long yet, in says how long to wait.
func Available(p *corev1.Pod, minReady int32, now time.Time) (ok bool, in time.Duration) {
	if !Ready(p) {
		return false, 0
	}
	if minReady == 0 {
		return true, 0
	}
	since := Condition(p, corev1.PodReady).LastTransitionTime
	if since.IsZero() {
		return false, 0
	}
	left := time.Duration(minReady)*time.Second - now.Sub(since.Time)
	return left <= 0, max(left, 0)
}

// FromTemplate is a pod as its controlling owner makes it, without a name.
func FromTemplate(t *corev1.PodTemplateSpec, namespace string, owner metav1.OwnerReference) *corev1.Pod {
	t = t.DeepCopy()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Labels: t.Labels, Annotations: t.Annotations, Finalizers: t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{owner},
		},
		Spec: t.Spec,
	}
}

// Matches says whether a selector, if it is valid, not empty, and the labels agree. An empty one matches nothing here: it
// would adopt the world.
func Matches(s *metav1.LabelSelector, set map[string]string) bool {
	sel, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && !sel.Empty() && sel.Matches(labels.Set(set))
}

// MatchesAll: the selector is valid and empty.
func MatchesAll(s *metav1.LabelSelector) bool {
	sel, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && sel.Empty()
}

// Has: the labels have all of want.
func Has(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// Adopted is a copy of refs with owner added.
func Adopted(refs []metav1.OwnerReference, owner metav1.OwnerReference) []metav1.OwnerReference {
	return append(append([]metav1.OwnerReference(nil), refs...), owner)
}

// Released is a copy of refs without those of owner.
func Released(refs []metav1.OwnerReference, owner metav1.Object) []metav1.OwnerReference {
	var out []metav1.OwnerReference
	for _, r := range refs {
		if r.UID != owner.GetUID() {
			out = append(out, r)
		}
	}
	return out
}
