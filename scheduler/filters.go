// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// filter says why a node cannot have a pod; nothing if it can.
type filter struct {
	name   string
	refuse func(n *Node, want *request) []string
}

// filters stand in the order of what people should be told first, and what is cheap to ask: a node that is meant for others
// is not said to be full.
var filters = [...]filter{
	{"NodeName", otherName},
	{"NodeUnschedulable", unschedulable},
	{"NodeAffinity", noAffinity},
	{"TaintToleration", untolerated},
	{"NodePorts", portsTaken},
	{"NodeResourcesFit", insufficient},
}

func otherName(n *Node, want *request) []string {
	if name := want.pod.Spec.NodeName; name != "" && name != n.name {
		return []string{"node(s) didn't match the requested node name"}
	}
	return nil
}

func unschedulable(n *Node, want *request) []string {
	taint := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if n.node.Spec.Unschedulable && !tolerated(want.pod, &taint) {
		return []string{"node(s) were unschedulable"}
	}
	return nil
}

func noAffinity(n *Node, want *request) []string {
	ok, err := want.affinity.Match(n.node)
	switch {
	case err != nil:
		return []string{fmt.Sprintf("node affinity that cannot be read: %v", err)}
	case !ok:
		return []string{"node(s) didn't match Pod's node affinity/selector"}
	}
	return nil
}

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

func portsTaken(n *Node, want *request) []string {
	for _, p := range want.ports {
		for _, u := range n.pods {
			for _, q := range u.ports {
				if p.port == q.port && p.protocol == q.protocol && (p.ip == q.ip || p.ip == "" || q.ip == "") {
					return []string{"node(s) didn't have free ports for the requested pod ports"}
				}
			}
		}
	}
	return nil
}

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
