// SPDX-License-Identifier: Apache-2.0

package nodelife

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ours are the taints that follow from conditions, and from spec.unschedulable.
var ours = [...]string{
	corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeUnschedulable, corev1.TaintNodeMemoryPressure,
	corev1.TaintNodeDiskPressure, corev1.TaintNodePIDPressure, corev1.TaintNodeNetworkUnavailable,
}

// wanted are the taints a node should have of ours.
func wanted(n *corev1.Node) []corev1.Taint {
	var out []corev1.Taint
	add := func(key string, effects ...corev1.TaintEffect) {
		for _, e := range effects {
			out = append(out, corev1.Taint{Key: key, Effect: e})
		}
	}
	if c := conditionOf(n, corev1.NodeReady); c != nil {
		switch c.Status {
		case corev1.ConditionFalse:
			add(corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute)
		case corev1.ConditionUnknown:
			add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute)
		}
	}
	if n.Spec.Unschedulable {
		add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	}
	for _, x := range []struct {
		condition corev1.NodeConditionType
		taint     string
	}{
		{corev1.NodeMemoryPressure, corev1.TaintNodeMemoryPressure},
		{corev1.NodeDiskPressure, corev1.TaintNodeDiskPressure},
		{corev1.NodePIDPressure, corev1.TaintNodePIDPressure},
		{corev1.NodeNetworkUnavailable, corev1.TaintNodeNetworkUnavailable},
	} {
		if c := conditionOf(n, x.condition); c != nil && c.Status == corev1.ConditionTrue {
			add(x.taint, corev1.TaintEffectNoSchedule)
		}
	}
	return out
}

// tainted is a copy of the node with the taints it should have; nil when it has them.
func tainted(s State) *corev1.Node {
	want := wanted(s.Node)
	same := func(a corev1.Taint) func(corev1.Taint) bool {
		return func(b corev1.Taint) bool { return a.Key == b.Key && a.Effect == b.Effect }
	}
	var taints []corev1.Taint
	changed := false
	for _, t := range s.Node.Spec.Taints {
		if slices.Contains(ours[:], t.Key) && !slices.ContainsFunc(want, same(t)) {
			changed = true
			continue
		}
		taints = append(taints, t)
	}
	for _, t := range want {
		if slices.ContainsFunc(taints, same(t)) {
			continue
		}
		changed = true
		now := metav1.NewTime(s.Now).Rfc3339Copy()
		t.TimeAdded = &now
		taints = append(taints, t)
	}
	if !changed {
		return nil
	}
	c := s.Node.DeepCopy()
	c.Spec.Taints = taints
	return c
}
