// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

func untolerated(n *Node, want *request) []string {
	for i := range n.node.Spec.Taints {
		t := &n.node.Spec.Taints[i]
		if (t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute) && !tolerated(want.pod, t) {
			return []string{fmt.Sprintf("node(s) had untolerated taint {%s: %s}", t.Key, t.Value)}
		}
	}
	return nil
}

func tolerated(p *corev1.Pod, t *corev1.Taint) bool {
	return slices.ContainsFunc(p.Spec.Tolerations, func(tol corev1.Toleration) bool {
		if tol.Effect != "" && tol.Effect != t.Effect || tol.Key != "" && tol.Key != t.Key {
			return false
		}
		return tol.Operator == corev1.TolerationOpExists || (tol.Operator == "" || tol.Operator == corev1.TolerationOpEqual) && tol.Value == t.Value
	})
}

// avoided: the fewer PreferNoSchedule taints that the pod does not tolerate, the better.
func avoided(fit []*Node, want *request, out []float64) {
	for i, n := range fit {
		for j := range n.node.Spec.Taints {
			t := &n.node.Spec.Taints[j]
			if t.Effect == corev1.TaintEffectPreferNoSchedule && !tolerated(want.pod, t) {
				out[i]++
			}
		}
	}
	fewest(out)
}
