// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/state/cache"
)

// View is the nodes and what is on them. It belongs to one goroutine.
type View struct {
	nodes  map[string]*Node
	order  []*Node // those that exist, by name; nil: to be made again
	where  map[types.UID]string
	social map[types.UID]*use           // the placed pods that have something to say about their neighbours
	spaces map[string]map[string]string // labels of the namespaces
}

// Node is one node and what is on it. Pods may be known before their node is: then it takes no others.
type Node struct {
	name string
	node *corev1.Node // nil: not seen (any more)
	free resources    // allocatable
	pods map[types.UID]*use

	// Sums over pods, so that no placement looks at each of them.
	used   resources
	load   load
	ports  map[hostPort]int
	owners map[types.UID]int // pods that stay, by owner
}

// use is what one pod takes of its node.
type use struct {
	pod       *corev1.Pod
	resources resources
	ports     []hostPort
	owner     types.UID // "" if it has none, or is ending
	terms     *podTerms // nil: it does not care about its neighbours
	node      *Node
}

// NewView makes a View of a snapshot.
func NewView(s *cache.Snapshot) *View {
	v := &View{nodes: map[string]*Node{}, where: map[types.UID]string{}, social: map[types.UID]*use{}, spaces: map[string]map[string]string{}}
	for ns := range cache.List[corev1.Namespace](s, "") {
		v.spaces[ns.Name] = ns.Labels
	}
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

// has: the node has a label.
func (n *Node) has(label string) bool { _, ok := n.node.Labels[label]; return ok }

// Len is how many nodes exist.
func (v *View) Len() int { return len(v.sorted()) }

// sorted are the nodes that exist, by name.
func (v *View) sorted() []*Node {
	if v.order == nil {
		v.order = make([]*Node, 0, len(v.nodes))
		for _, n := range v.nodes {
			if n.node != nil {
				v.order = append(v.order, n)
			}
		}
		slices.SortFunc(v.order, func(a, b *Node) int { return cmp.Compare(a.name, b.name) })
	}
	return v.order
}

func (v *View) at(name string) *Node {
	n := v.nodes[name]
	if n == nil {
		n = &Node{name: name, used: resources{}, pods: map[types.UID]*use{}, ports: map[hostPort]int{}, owners: map[types.UID]int{}}
		v.nodes[name] = n
	}
	return n
}

func (v *View) setNode(n *corev1.Node) {
	x := v.at(n.Name)
	if x.node == nil {
		v.order = nil
	}
	x.node, x.free = n, amounts(n.Status.Allocatable)
}

func (v *View) setNamespace(n *corev1.Namespace, gone bool) {
	if gone {
		delete(v.spaces, n.Name)
		return
	}
	v.spaces[n.Name] = n.Labels
}

func (v *View) removeNode(name string) {
	if n := v.nodes[name]; n != nil {
		n.node = nil
		v.order = nil
		v.tidy(n)
	}
}

// tidy forgets a node of which nothing is left.
func (v *View) tidy(n *Node) {
	if n.node == nil && len(n.pods) == 0 {
		delete(v.nodes, n.name)
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
	u := &use{pod: p, resources: requested(p), ports: hostPorts(p), terms: termsOf(p), node: n}
	if p.DeletionTimestamp == nil {
		u.owner = owner(p)
	}
	n.pods[p.UID] = u
	n.count(u, 1)
	v.where[p.UID] = node
	if u.terms != nil {
		v.social[p.UID] = u
	}
}

// count adds a pod to the node's sums, or takes it away: sign is 1 or -1.
func (n *Node) count(u *use, sign int) {
	n.used.add(u.resources, int64(sign))
	l := loadOf(u.resources)
	n.load.cpu += int64(sign) * l.cpu
	n.load.memory += int64(sign) * l.memory
	for _, p := range u.ports {
		tally(n.ports, p, sign)
	}
	if u.owner != "" {
		tally(n.owners, u.owner, sign)
	}
}

// tally keeps no zeros.
func tally[K comparable](m map[K]int, k K, by int) {
	if m[k] += by; m[k] == 0 {
		delete(m, k)
	}
}

func (v *View) removePod(uid types.UID) {
	n := v.nodes[v.where[uid]]
	if n == nil {
		return
	}
	delete(v.where, uid)
	delete(v.social, uid)
	if u := n.pods[uid]; u != nil {
		n.count(u, -1)
		delete(n.pods, uid)
	}
	v.tidy(n)
}

// placed is where a pod is counted; "" if nowhere.
func (v *View) placed(uid types.UID) string { return v.where[uid] }
