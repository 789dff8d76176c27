// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// insufficient names every resource of which there is too little.
func insufficient(n *Node, want *request) []string {
	var out []string
	if most, ok := n.free[corev1.ResourcePods]; ok && int64(len(n.pods))+1 > most {
		out = append(out, "Too many pods")
	}
	for name, amount := range want.resources {
		if amount > 0 && amount > n.free[name]-n.used[name] {
			out = append(out, "Insufficient "+string(name))
		}
	}
	slices.Sort(out)
	return out
}

// The amounts that a pod which asks for none is scored with.
const (
	someCPU    = 100       // thousandths
	someMemory = 200 << 20 // bytes
)

// load is cpu (thousandths) and memory (bytes) as scored: no pod counts for nothing.
type load struct{ cpu, memory int64 }

func loadOf(r resources) load {
	l := load{r[corev1.ResourceCPU], r[corev1.ResourceMemory]}
	if l.cpu == 0 {
		l.cpu = someCPU
	}
	if l.memory == 0 {
		l.memory = someMemory
	}
	return l
}

// leastAllocated is the share of cpu and memory that would be left.
func leastAllocated(fit []*Node, want *request, out []float64) {
	l := loadOf(want.resources)
	for i, n := range fit {
		out[i] = (left(n.free[corev1.ResourceCPU], n.load.cpu+l.cpu) + left(n.free[corev1.ResourceMemory], n.load.memory+l.memory)) / 2
	}
}

func left(has, used int64) float64 {
	if used >= has {
		return 0
	}
	return 100 * float64(has-used) / float64(has)
}
