// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// ReplicationController keeps ReplicationControllers: each is looked at as the ReplicaSet that it would be today.
func ReplicationController() reconcile.Controller {
	return reconcile.Define("replication-controller", []reconcile.Watch{
		reconcile.Objects[corev1.ReplicationController](),
		reconcile.OwnedBy[corev1.ReplicationController, corev1.Pod](),
		reconcile.Mapped(wantedByOld),
	}, observeOld, Decide)
}

func wantedByOld(s *cache.Snapshot, p *corev1.Pod) []reconcile.Key {
	if metav1.GetControllerOfNoCopy(p) != nil || len(p.Labels) == 0 {
		return nil
	}
	var keys []reconcile.Key
	for rc := range cache.List[corev1.ReplicationController](s, p.Namespace) {
		if len(rc.Spec.Selector) > 0 && pods.Has(p.Labels, rc.Spec.Selector) {
			keys = append(keys, reconcile.Key{Namespace: rc.Namespace, Name: rc.Name})
		}
	}
	return keys
}

func observeOld(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
	rc, ok := cache.Get[corev1.ReplicationController](s, k.Namespace, k.Name)
	if !ok || rc.Spec.Template == nil {
		return State{}, false
	}
	return gather(s, State{ReplicaSet: asSet(rc), Controller: rc, Now: now}), true
}

// asSet shares what it can with rc.
func asSet(rc *corev1.ReplicationController) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{
		ObjectMeta: rc.ObjectMeta,
		Spec: appsv1.ReplicaSetSpec{
			Replicas: rc.Spec.Replicas, MinReadySeconds: rc.Spec.MinReadySeconds,
			Selector: &metav1.LabelSelector{MatchLabels: rc.Spec.Selector}, Template: *rc.Spec.Template,
		},
		Status: appsv1.ReplicaSetStatus{
			Replicas: rc.Status.Replicas, FullyLabeledReplicas: rc.Status.FullyLabeledReplicas, ReadyReplicas: rc.Status.ReadyReplicas,
			AvailableReplicas: rc.Status.AvailableReplicas, ObservedGeneration: rc.Status.ObservedGeneration,
		},
	}
	for _, c := range rc.Status.Conditions {
		rs.Status.Conditions = append(rs.Status.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return rs
}

func oldStatus(st appsv1.ReplicaSetStatus) corev1.ReplicationControllerStatus {
	out := corev1.ReplicationControllerStatus{
		Replicas: st.Replicas, FullyLabeledReplicas: st.FullyLabeledReplicas, ReadyReplicas: st.ReadyReplicas,
		AvailableReplicas: st.AvailableReplicas, ObservedGeneration: st.ObservedGeneration,
	}
	for _, c := range st.Conditions {
		out.Conditions = append(out.Conditions, corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return out
}
