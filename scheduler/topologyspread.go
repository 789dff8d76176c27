// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// spread is one topologySpreadConstraint and how it stands.
type spread struct {
	key        string
	maxSkew    int
	selector   labels.Selector
	minDomains int            // below it, a missing one counts as empty
	self       int            // 1 if the pod counts itself
	affinity   bool           // nodes that the pod's selector excludes do not count
	taints     bool           // nodes whose taints it does not tolerate do not count
	matching   map[string]int // pods, by the label's value; a domain without any is there with 0
	fewest     int            // of all domains
}

// spreads are a pod's constraints: those that must hold and those that had better.
type spreads struct{ hard, soft []*spread }

func newSpreads(v *View, want *request) spreads {
	var s spreads
	for i := range want.pod.Spec.TopologySpreadConstraints {
		c := &want.pod.Spec.TopologySpreadConstraints[i]
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			s.hard = append(s.hard, newSpread(want.pod, c))
		} else {
			s.soft = append(s.soft, newSpread(want.pod, c))
		}
	}
	survey(v, want, s.hard)
	survey(v, want, s.soft)
	for _, c := range s.hard {
		c.settle()
	}
	return s
}

func newSpread(p *corev1.Pod, c *corev1.TopologySpreadConstraint) *spread {
	selector, err := metav1.LabelSelectorAsSelector(c.LabelSelector)
	if err != nil {
		selector = labels.Nothing()
	}
	s := &spread{
		key: c.TopologyKey, maxSkew: int(c.MaxSkew), selector: withOwn(selector, p, c.MatchLabelKeys, selection.In),
		affinity: c.NodeAffinityPolicy == nil || *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor,
		taints:   c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor,
		matching: map[string]int{},
	}
	if c.MinDomains != nil {
		s.minDomains = int(*c.MinDomains)
	}
	if s.selector.Matches(labels.Set(p.Labels)) {
		s.self = 1
	}
	return s
}

// survey counts the pods that match, on the nodes that have all the labels the constraints speak of.
func survey(v *View, want *request, all []*spread) {
	if len(all) == 0 {
		return
	}
nodes:
	for _, n := range v.sorted() {
		for _, s := range all {
			if !n.has(s.key) {
				continue nodes
			}
		}
		for _, s := range all {
			if s.affinity && noAffinity(n, want) != nil || s.taints && untolerated(n, want) != nil {
				continue
			}
			s.matching[n.node.Labels[s.key]] += s.on(n, want.pod.Namespace)
		}
	}
}

// on counts the pods of a namespace that match and stay.
func (s *spread) on(n *Node, ns string) (count int) {
	for _, u := range n.pods {
		if u.pod.Namespace == ns && u.pod.DeletionTimestamp == nil && s.selector.Matches(labels.Set(u.pod.Labels)) {
			count++
		}
	}
	return count
}

// settle finds the fewest; with fewer domains than there should be, a missing one has none.
func (s *spread) settle() {
	if len(s.matching) < s.minDomains || len(s.matching) == 0 {
		return
	}
	s.fewest = math.MaxInt
	for _, count := range s.matching {
		s.fewest = min(s.fewest, count)
	}
}

func tooUneven(n *Node, want *request) []string {
	for _, s := range want.spreads.hard {
		if !n.has(s.key) {
			return []string{"node(s) didn't match pod topology spread constraints (missing required label)"}
		}
		if s.matching[n.node.Labels[s.key]]+s.self-s.fewest > s.maxSkew {
			return []string{"node(s) didn't match pod topology spread constraints"}
		}
	}
	return nil
}

// uneven: where fewer pods match the constraints that need not hold. A node without the label is the worst.
func uneven(fit []*Node, want *request, out []float64) {
	if len(want.spreads.soft) == 0 {
		return
	}
	for _, s := range want.spreads.soft {
		worst := 0
		for _, count := range s.matching {
			worst = max(worst, count)
		}
		for i, n := range fit {
			if n.has(s.key) {
				out[i] += float64(s.matching[n.node.Labels[s.key]])
			} else {
				out[i] += float64(worst + 1)
			}
		}
	}
	fewest(out)
}
