// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"hash/fnv"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// score says how well each node that fits suits: it fills out, one number from 0 to 100 for each, all 0 before. It sees them
// together, so that it may compare. To add one: its file, and a line here.
type score struct {
	name   string
	weight float64
	of     func(fit []*Node, want *request, out []float64)
}

// scores are added by weight; the order means nothing. What somebody wrote down (taints, preferences) and keeping replicas
// apart weigh more than what merely is good for the machines.
var scores = [...]score{
	{"PreferNoSchedule", 3, avoided},        // an administrator's wish
	{"ReplicasApart", 3, apart},             // one node's end must not end a service
	{"PreferredNodeAffinity", 2, preferred}, // the pod's wish
	{"PodTopologySpread", 2, uneven},        // the pod's wish, ScheduleAnyway
	{"InterPodAffinity", 2, neighbours},     // the pod's wish, and that of those who are there
	{"LeastAllocated", 1, leastAllocated},   // even load
	{"ImageLocality", 1, imagesHere},        // a quicker start
}

// best is the node with the highest score; among equals the pod's UID decides, so that they take turns.
func best(fit []*Node, want *request) *Node {
	if len(fit) == 1 {
		return fit[0]
	}
	total, one := make([]float64, len(fit)), make([]float64, len(fit))
	for _, s := range scores {
		clear(one)
		s.of(fit, want, one)
		for i := range total {
			total[i] += s.weight * one[i]
		}
	}
	top := slices.Max(total)
	var chosen *Node
	var luck uint64
	for i, n := range fit {
		if total[i] != top {
			continue
		}
		if l := lot(want.pod, n.name); chosen == nil || l > luck {
			chosen, luck = n, l
		}
	}
	return chosen
}

func lot(p *corev1.Pod, node string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(p.UID))
	h.Write([]byte(node))
	return h.Sum64()
}

// most makes amounts into scores: the largest is 100. If there is none, all stay 0.
func most(out []float64) {
	if top := slices.Max(out); top > 0 {
		for i := range out {
			out[i] *= 100 / top
		}
	}
}

// fewest makes amounts into scores: none is 100, the largest is 0.
func fewest(out []float64) {
	top := max(slices.Max(out), 1)
	for i := range out {
		out[i] = 100 * (top - out[i]) / top
	}
}
