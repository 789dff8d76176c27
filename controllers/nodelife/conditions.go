// SPDX-License-Identifier: Apache-2.0

package nodelife

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func conditionOf(n *corev1.Node, t corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == t {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}

// heard is when the node last showed that it lives; a new one gets its time from its creation.
func heard(s State) time.Time {
	last := s.Node.CreationTimestamp.Time
	if s.Since.After(last) {
		last = s.Since
	}
	if s.Lease != nil && s.Lease.Spec.RenewTime != nil && s.Lease.Spec.RenewTime.After(last) {
		last = s.Lease.Spec.RenewTime.Time
	}
	if c := conditionOf(s.Node, corev1.NodeReady); c != nil && c.LastHeartbeatTime.After(last) {
		last = c.LastHeartbeatTime.Time
	}
	return last
}

// silenced is a copy of a silent node whose conditions say so; nil when they do already.
func silenced(s State) *corev1.Node {
	var c *corev1.Node
	now := metav1.NewTime(s.Now).Rfc3339Copy()
	for _, t := range []corev1.NodeConditionType{
		corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure,
	} {
		have := conditionOf(s.Node, t)
		if have != nil && have.Status == corev1.ConditionUnknown {
			continue
		}
		if c == nil {
			c = s.Node.DeepCopy()
		}
		if have == nil {
			c.Status.Conditions = append(c.Status.Conditions, corev1.NodeCondition{
				Type: t, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated", Message: "Kubelet never posted node status.",
				LastHeartbeatTime: s.Node.CreationTimestamp, LastTransitionTime: now,
			})
			continue
		}
		x := conditionOf(c, t)
		x.Status, x.LastTransitionTime = corev1.ConditionUnknown, now
		x.Reason, x.Message = "NodeStatusUnknown", "Kubelet stopped posting node status."
	}
	return c
}
