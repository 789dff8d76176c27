// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	corev1 "k8s.io/api/core/v1"
)

// apart: fewer pods of the same owner, in the zone first (two thirds), then on the node.
func apart(fit []*Node, want *request, out []float64) {
	if want.owner == "" {
		return
	}
	inZone := map[string]float64{} // also of nodes that do not fit: they are in the zone all the same
	for _, n := range want.view.sorted() {
		if z := n.zone(); z != "" {
			inZone[z] += float64(n.owners[want.owner])
		}
	}
	zones := make([]float64, len(fit))
	for i, n := range fit {
		out[i], zones[i] = float64(n.owners[want.owner]), inZone[n.zone()]
	}
	fewest(out)
	fewest(zones)
	for i, n := range fit {
		if n.zone() != "" {
			out[i] = out[i]/3 + zones[i]*2/3
		}
	}
}

func (n *Node) zone() string { return n.node.Labels[corev1.LabelTopologyZone] }
