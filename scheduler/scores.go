// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"hash/fnv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// score says how well a node suits, from 0 to 100; what is relative to the other nodes sees all that fit.
type score struct {
	name   string
	weight float64
	of     func(n *Node, want *request, all *field) float64
}

// scores are added by weight; the order means nothing. Avoiding a node that asks to be avoided, and keeping replicas
// apart, weigh more than even load.
var scores = [...]score{
	{"PreferNoSchedule", 3, avoided},
	{"Spreading", 3, spread},
	{"PreferredAffinity", 2, preferred},
	{"LeastAllocated", 1, leastAllocated},
	{"ImageLocality", 1, imagesHere},
}

// field is what scores that compare need to know of all nodes that fit.
type field struct {
	peersAtNode map[string]int // pods of the same owner, by node
	peersInZone map[string]int
	mostAtNode  int
	mostInZone  int
	avoid       map[string]int // PreferNoSchedule taints not tolerated, by node
	mostAvoid   int
	prefer      map[string]int64
	mostPrefer  int64
}

func zone(n *Node) string { return n.node.Labels[corev1.LabelTopologyZone] }

func survey(v *View, fit []*Node, want *request) *field {
	f := &field{peersAtNode: map[string]int{}, peersInZone: map[string]int{}, avoid: map[string]int{}, prefer: map[string]int64{}}
	for _, n := range v.Nodes() {
		for _, u := range n.pods {
			if want.owner != "" && u.owner == want.owner && u.pod.DeletionTimestamp == nil {
				f.peersAtNode[n.name]++
				if z := zone(n); z != "" {
					f.peersInZone[z]++
				}
			}
		}
	}
	for _, n := range fit {
		f.mostAtNode = max(f.mostAtNode, f.peersAtNode[n.name])
		f.mostInZone = max(f.mostInZone, f.peersInZone[zone(n)])
		for i := range n.node.Spec.Taints {
			t := &n.node.Spec.Taints[i]
			if t.Effect == corev1.TaintEffectPreferNoSchedule && !tolerated(want.pod, t) {
				f.avoid[n.name]++
			}
		}
		f.mostAvoid = max(f.mostAvoid, f.avoid[n.name])
		if want.preferred != nil {
			f.prefer[n.name] = want.preferred.Score(n.node)
			f.mostPrefer = max(f.mostPrefer, f.prefer[n.name])
		}
	}
	return f
}

// best is the node with the highest score; among equals the pod's UID decides, so that they take turns.
func best(v *View, fit []*Node, want *request) *Node {
	if len(fit) == 1 {
		return fit[0]
	}
	f := survey(v, fit, want)
	var chosen *Node
	var most float64
	var luck uint64
	for _, n := range fit {
		total := 0.0
		for _, s := range scores {
			total += s.weight * s.of(n, want, f)
		}
		l := lot(want.pod, n.name)
		if chosen == nil || total > most || total == most && l > luck {
			chosen, most, luck = n, total, l
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

// inverse is 100 for none and 0 for the most.
func inverse(n, most int) float64 {
	if most == 0 {
		return 100
	}
	return 100 * float64(most-n) / float64(most)
}

func avoided(n *Node, _ *request, all *field) float64 {
	return inverse(all.avoid[n.name], all.mostAvoid)
}

// spread: fewer pods of the same owner, in the zone first (two thirds), then on the node.
func spread(n *Node, _ *request, all *field) float64 {
	here := inverse(all.peersAtNode[n.name], all.mostAtNode)
	if zone(n) == "" {
		return here
	}
	return here/3 + inverse(all.peersInZone[zone(n)], all.mostInZone)*2/3
}

func preferred(n *Node, _ *request, all *field) float64 {
	if all.mostPrefer == 0 {
		return 0
	}
	return 100 * float64(all.prefer[n.name]) / float64(all.mostPrefer)
}

// leastAllocated is the share of cpu and memory that would be left.
func leastAllocated(n *Node, want *request, _ *field) float64 {
	left := func(name corev1.ResourceName, some int64) float64 {
		ask := want.resources[name]
		if ask == 0 {
			ask = some
		}
		has := n.free[name]
		used := n.used[name] + ask
		for _, u := range n.pods {
			if u.resources[name] == 0 {
				used += some
			}
		}
		if has == 0 || used >= has {
			return 0
		}
		return 100 * float64(has-used) / float64(has)
	}
	return (left(corev1.ResourceCPU, someCPU) + left(corev1.ResourceMemory, someMemory)) / 2
}

// The sizes between which an image that is there already counts.
const (
	smallImages = 23 << 20
	largeImages = 1000 << 20
)

func imagesHere(n *Node, want *request, _ *field) float64 {
	var have int64
	for i := range want.pod.Spec.Containers {
		have += imageSize(n.node, want.pod.Spec.Containers[i].Image)
	}
	switch {
	case have <= smallImages:
		return 0
	case have >= largeImages:
		return 100
	}
	return 100 * float64(have-smallImages) / float64(largeImages-smallImages)
}

func imageSize(n *corev1.Node, image string) int64 {
	if !strings.ContainsAny(image[strings.LastIndexByte(image, '/')+1:], ":@") {
		image += ":latest"
	}
	for i := range n.Status.Images {
		for _, name := range n.Status.Images[i].Names {
			if name == image || strings.TrimPrefix(strings.TrimPrefix(name, "docker.io/"), "library/") == image {
				return n.Status.Images[i].SizeBytes
			}
		}
	}
	return 0
}
