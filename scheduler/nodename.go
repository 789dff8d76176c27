// SPDX-License-Identifier: Apache-2.0

package scheduler

func otherName(n *Node, want *request) []string {
	if name := want.pod.Spec.NodeName; name != "" && name != n.name {
		return []string{"node(s) didn't match the requested node name"}
	}
	return nil
}
