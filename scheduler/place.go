// SPDX-License-Identifier: Apache-2.0

// Package scheduler gives each pod a node: a pure function from a View of the nodes and a pod to a node and reasons, and a
// loop that binds.
//
// Place runs the filters in order on each node (filters.go: may it?), then the scores on those that are left (scores.go:
// how well?); the two lists are short, each filter and score is in the file of its noun (taints.go, fit.go, …). A pod that fits nowhere stays Pending, says so in its PodScheduled condition and in an event, and is tried
// again when something that may help changes. The View (view.go) follows the cache change by change; pods that were bound
// but are not shown bound yet are counted where they go, so many pods can be placed at once.
//
// Goroutines: Run's own, which alone owns the View; one that reads the watch; and up to Binders that bind. No files.
package scheduler

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Reason is why a node cannot have a pod.
type Reason struct {
	Node string
	Text string // "Insufficient cpu"; without the node's name, so that equal ones can be counted
}

// Place chooses a node. If there is none, node is empty and there is at least one reason for each node.
func Place(v *View, p *corev1.Pod) (node string, reasons []Reason) {
	want := newRequest(v, p)
	var fit []*Node
	for _, n := range v.sorted() {
		if why := refuse(n, want); len(why) > 0 {
			for _, text := range why {
				reasons = append(reasons, Reason{n.Name(), text})
			}
			continue
		}
		fit = append(fit, n)
	}
	if len(fit) == 0 {
		return "", reasons
	}
	return best(fit, want).Name(), nil
}

// refuse is what the first filter that objects says.
func refuse(n *Node, want *request) []string {
	for _, f := range filters {
		if why := f.refuse(n, want); len(why) > 0 {
			return why
		}
	}
	return nil
}

// Summary is the one sentence that people know: "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) …."
func Summary(nodes int, reasons []Reason) string {
	if nodes == 0 {
		return "no nodes available to schedule pods"
	}
	counts := map[string]int{}
	for _, r := range reasons {
		counts[r.Text]++
	}
	var parts []string
	for text, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, text))
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", nodes, strings.Join(parts, ", "))
}

// The bounds of an event's message: the API's, and what a person reads.
const (
	maxMessage = 1024
	maxNodes   = 10
)

// Details is Summary with the reasons of each node.
func Details(nodes int, reasons []Reason) string {
	out := Summary(nodes, reasons)
	byNode := map[string][]string{}
	var order []string
	for _, r := range reasons {
		if byNode[r.Node] == nil {
			order = append(order, r.Node)
		}
		byNode[r.Node] = append(byNode[r.Node], r.Text)
	}
	for i, name := range order {
		line := fmt.Sprintf(" %s: %s.", name, strings.Join(byNode[name], ", "))
		if i == maxNodes || len(out)+len(line) > maxMessage-len(" …") {
			return out + " …"
		}
		out += line
	}
	return out
}
