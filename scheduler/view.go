// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/state/cache"
)

// View is the nodes and what is on them. It belongs to one goroutine.
type View struct {
	nodes map[string]*Node
	order []string // names, sorted; nil: to be made again
	where map[types.UID]string
}

// Node is one node and what is on it. Pods may be known before their node is: then it takes no others.
type Node struct {
	name string
	node *corev1.Node // nil: not seen (any more)
	free resources    // allocatable
	used resources
	pods map[types.UID]*use
}

// use is what one pod takes of its node.
type use struct {
	pod       *corev1.Pod
	resources resources
	ports     []hostPort
	owner     types.UID
}

// NewView makes a View of a snapshot.
func NewView(s *cache.Snapshot) *View {
	v := &View{nodes: map[string]*Node{}, where: map[types.UID]string{}}
	for n := range cache.List[corev1.Node](s, "") {
		v.setNode(n)
	}
	for p := range cache.List[corev1.Pod](s, "") {
		v.setPod(p)
	}
	return v
}

// Name is the node's.
func (n *Node) Name() string { return n.name }

// Nodes are the nodes that exist, by name.
func (v *View) Nodes() []*Node {
	if v.order == nil {
		v.order = slices.Sorted(maps.Keys(v.nodes))
	}
	out := make([]*Node, 0, len(v.order))
	for _, name := range v.order {
		if n := v.nodes[name]; n.node != nil {
			out = append(out, n)
		}
	}
	return out
}

func (v *View) at(name string) *Node {
	n := v.nodes[name]
	if n == nil {
		n = &Node{name: name, used: resources{}, pods: map[types.UID]*use{}}
		v.nodes[name] = n
		v.order = nil
	}
	return n
}

func (v *View) setNode(n *corev1.Node) {
	x := v.at(n.Name)
	x.node, x.free = n, amounts(n.Status.Allocatable)
}

func (v *View) removeNode(name string) {
	if n := v.nodes[name]; n != nil {
		n.node = nil
		v.tidy(n)
	}
}

// tidy forgets a node of which nothing is left.
func (v *View) tidy(n *Node) {
	if n.node == nil && len(n.pods) == 0 {
		delete(v.nodes, n.name)
		v.order = nil
	}
}

// setPod counts a pod where it is. One that has ended takes nothing; one without a node stays where it was assumed to go.
func (v *View) setPod(p *corev1.Pod) {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		v.removePod(p.UID)
		return
	}
	if p.Spec.NodeName == "" {
		return
	}
	v.place(p, p.Spec.NodeName)
}

// place counts a pod on a node, whatever its spec says.
func (v *View) place(p *corev1.Pod, node string) {
	v.removePod(p.UID)
	n := v.at(node)
	u := &use{pod: p, resources: requested(p), ports: hostPorts(p), owner: owner(p)}
	n.pods[p.UID] = u
	n.used.add(u.resources, 1)
	v.where[p.UID] = node
}

func (v *View) removePod(uid types.UID) {
	n := v.nodes[v.where[uid]]
	if n == nil {
		return
	}
	delete(v.where, uid)
	if u := n.pods[uid]; u != nil {
		n.used.add(u.resources, -1)
		delete(n.pods, uid)
	}
	v.tidy(n)
}

// placed is where a pod is counted; "" if nowhere.
func (v *View) placed(uid types.UID) string { return v.where[uid] }
