// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"cmp"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/controllers/pods"
)

// victims are the n pods to delete first: those whose loss hurts least, in Kubernetes' order. On no node yet; pending;
// not ready; cheaper by annotation; on a node with more of them; ready for less long; restarted more; younger.
func victims(active []*corev1.Pod, s State, n int) []*corev1.Pod {
	onNode := map[string]int{}
	for _, p := range active {
		onNode[p.Spec.NodeName]++
	}
	out := slices.Clone(active)
	slices.SortStableFunc(out, func(a, b *corev1.Pod) int {
		return cmp.Or(
			before(a.Spec.NodeName == "", b.Spec.NodeName == ""),
			cmp.Compare(phaseRank(a), phaseRank(b)),
			before(!pods.Ready(a), !pods.Ready(b)),
			cmp.Compare(cost(a), cost(b)),
			cmp.Compare(onNode[b.Spec.NodeName], onNode[a.Spec.NodeName]),
			-cmp.Compare(readySince(a), readySince(b)),
			cmp.Compare(restarts(b), restarts(a)),
			b.CreationTimestamp.Compare(a.CreationTimestamp.Time),
			cmp.Compare(a.Name, b.Name),
		)
	})
	return out[:min(n, len(out))]
}

func before(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func phaseRank(p *corev1.Pod) int {
	switch p.Status.Phase {
	case corev1.PodRunning:
		return 2
	case corev1.PodUnknown:
		return 1
	}
	return 0
}

// cost is the annotation controller.kubernetes.io/pod-deletion-cost; what cannot be read counts as none.
func cost(p *corev1.Pod) int32 {
	n, err := strconv.ParseInt(p.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

func readySince(p *corev1.Pod) int64 {
	if c := pods.Condition(p, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
		return c.LastTransitionTime.UnixNano()
	}
	return 0
}

func restarts(p *corev1.Pod) (n int32) {
	for _, c := range p.Status.ContainerStatuses {
		n = max(n, c.RestartCount)
	}
	return n
}
