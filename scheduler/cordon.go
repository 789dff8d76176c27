// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	corev1 "k8s.io/api/core/v1"
)

func unschedulable(n *Node, want *request) []string {
	taint := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if n.node.Spec.Unschedulable && !tolerated(want.pod, &taint) {
		return []string{"node(s) were unschedulable"}
	}
	return nil
}
