// SPDX-License-Identifier: Apache-2.0

package deployment

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/state/reconcile"
)

// The reasons of the Progressing condition; kubectl rollout status reads ProgressDeadlineExceeded.
const (
	reasonDone     = "NewReplicaSetAvailable"
	reasonMoving   = "ReplicaSetUpdated"
	reasonTimedOut = "ProgressDeadlineExceeded"
	reasonFound    = "FoundNewReplicaSet"
	reasonPaused   = "DeploymentPaused"
	reasonResumed  = "DeploymentResumed"
)

// withStatus is a plan that ends with the status as it is before the actions.
func withStatus(s *State, current *appsv1.ReplicaSet, acts []reconcile.Action, why string) reconcile.Plan {
	d := s.Deployment
	st, again := status(s, current)
	p := reconcile.Plan{Actions: acts, Again: again, Why: why}
	if !equality.Semantic.DeepEqual(st, d.Status) {
		c := d.DeepCopy()
		c.Status = st
		p.Status = c
	}
	return p
}

func status(s *State, current *appsv1.ReplicaSet) (st appsv1.DeploymentStatus, again time.Duration) {
	d := s.Deployment
	st = *d.Status.DeepCopy()
	st.ObservedGeneration = d.Generation
	st.Replicas, st.ReadyReplicas, st.UpdatedReplicas, st.AvailableReplicas = 0, 0, 0, available(s.Sets)
	for _, rs := range s.Sets {
		st.Replicas += rs.Status.Replicas
		st.ReadyReplicas += rs.Status.ReadyReplicas
	}
	if current != nil {
		st.UpdatedReplicas = current.Status.Replicas
	}
	st.UnavailableReplicas = max(0, total(s.Sets)-st.AvailableReplicas)

	_, unavailable := bounds(d)
	enough := condition(s.Now, appsv1.DeploymentAvailable, false, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
	if st.AvailableReplicas >= replicas(d)-unavailable {
		enough = condition(s.Now, appsv1.DeploymentAvailable, true, "MinimumReplicasAvailable", "Deployment has minimum availability.")
	}
	setCondition(&st, enough)
	if c := failure(s, current); c != nil {
		setCondition(&st, *c)
	} else {
		removeCondition(&st, appsv1.DeploymentReplicaFailure)
	}
	return st, progress(s, current, &st)
}

// failure is what a ReplicaSet says about pods that it cannot make: the new one, or else an old one.
func failure(s *State, current *appsv1.ReplicaSet) *appsv1.DeploymentCondition {
	sets := s.Sets
	if current != nil {
		sets = append([]*appsv1.ReplicaSet{current}, sets...)
	}
	for _, rs := range sets {
		for _, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure {
				return &appsv1.DeploymentCondition{Type: appsv1.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message,
					LastTransitionTime: c.LastTransitionTime, LastUpdateTime: c.LastTransitionTime}
			}
		}
	}
	return nil
}

// progress keeps the Progressing condition and says when the deadline is to be looked at.
func progress(s *State, current *appsv1.ReplicaSet, st *appsv1.DeploymentStatus) time.Duration {
	d := s.Deployment
	have := conditionOf(&d.Status, appsv1.DeploymentProgressing)
	switch {
	case d.Spec.ProgressDeadlineSeconds == nil:
		removeCondition(st, appsv1.DeploymentProgressing)
		return 0
	case d.Spec.Paused:
		if have == nil || have.Reason != reasonTimedOut && have.Reason != reasonPaused {
			setCondition(st, unknown(s.Now, reasonPaused, "Deployment is paused"))
		}
		return 0
	case have != nil && have.Reason == reasonPaused:
		setCondition(st, unknown(s.Now, reasonResumed, "Deployment is resumed"))
		return 0
	}
	what := fmt.Sprintf("Deployment %q", d.Name)
	if current != nil {
		what = fmt.Sprintf("ReplicaSet %q", current.Name)
	}
	settled := have != nil && have.Reason == reasonDone && st.Replicas == st.UpdatedReplicas
	switch {
	case settled:
		return 0
	case complete(d, st):
		setCondition(st, progressing(s.Now, true, reasonDone, what+" has successfully progressed."))
		return 0
	case moved(&d.Status, st):
		refresh(st, progressing(s.Now, true, reasonMoving, what+" is progressing."))
		return time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second
	case have == nil && current != nil:
		setCondition(st, progressing(s.Now, true, reasonFound, fmt.Sprintf("Found new replica set %q", current.Name)))
		return time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second
	case have == nil || have.Reason == reasonTimedOut:
		return 0
	}
	left := have.LastUpdateTime.Add(time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second).Sub(s.Now)
	if left > 0 || have.Reason == reasonDone {
		return max(left, 0)
	}
	setCondition(st, progressing(s.Now, false, reasonTimedOut, what+" has timed out progressing."))
	return 0
}

// complete: all of the new template, all of it available, nothing old left.
func complete(d *appsv1.Deployment, st *appsv1.DeploymentStatus) bool {
	n := replicas(d)
	return st.UpdatedReplicas == n && st.Replicas == n && st.AvailableReplicas == n && st.ObservedGeneration >= d.Generation
}

// moved: something about the rollout got better.
func moved(was, is *appsv1.DeploymentStatus) bool {
	return is.UpdatedReplicas > was.UpdatedReplicas ||
		is.Replicas-is.UpdatedReplicas < was.Replicas-was.UpdatedReplicas ||
		is.ReadyReplicas > was.ReadyReplicas || is.AvailableReplicas > was.AvailableReplicas
}

func progressing(now time.Time, ok bool, reason, message string) appsv1.DeploymentCondition {
	return condition(now, appsv1.DeploymentProgressing, ok, reason, message)
}

func unknown(now time.Time, reason, message string) appsv1.DeploymentCondition {
	c := progressing(now, false, reason, message)
	c.Status = corev1.ConditionUnknown
	return c
}

func condition(now time.Time, t appsv1.DeploymentConditionType, ok bool, reason, message string) appsv1.DeploymentCondition {
	c := appsv1.DeploymentCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message}
	if ok {
		c.Status = corev1.ConditionTrue
	}
	c.LastUpdateTime = metav1.NewTime(now).Rfc3339Copy()
	c.LastTransitionTime = c.LastUpdateTime
	return c
}

func conditionOf(st *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range st.Conditions {
		if st.Conditions[i].Type == t {
			return &st.Conditions[i]
		}
	}
	return nil
}

// setCondition puts a condition last, unless it says what is said already.
func setCondition(st *appsv1.DeploymentStatus, c appsv1.DeploymentCondition) {
	have := conditionOf(st, c.Type)
	if have != nil && have.Status == c.Status && have.Reason == c.Reason {
		return
	}
	refresh(st, c)
}

// refresh is setCondition that renews the time of the last update even when nothing else changed.
func refresh(st *appsv1.DeploymentStatus, c appsv1.DeploymentCondition) {
	if have := conditionOf(st, c.Type); have != nil && have.Status == c.Status {
		c.LastTransitionTime = have.LastTransitionTime
	}
	removeCondition(st, c.Type)
	st.Conditions = append(st.Conditions, c)
}

func removeCondition(st *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) {
	var out []appsv1.DeploymentCondition
	for _, c := range st.Conditions {
		if c.Type != t {
			out = append(out, c)
		}
	}
	st.Conditions = out
}
