// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// podTerm says which pods a pod wants near, or far.
type podTerm struct {
	selector   labels.Selector
	namespaces []string
	spaces     labels.Selector // further namespaces, by label; nil: none
	key        string          // nodes with the same value of this label are near each other
	weight     int64
}

// podTerms is all that a pod says about its neighbours.
type podTerms struct{ must, mustNot, like, dislike []podTerm }

// termsOf is nil for most pods.
func termsOf(p *corev1.Pod) *podTerms {
	a := p.Spec.Affinity
	if a == nil || a.PodAffinity == nil && a.PodAntiAffinity == nil {
		return nil
	}
	t := &podTerms{}
	if near := a.PodAffinity; near != nil {
		t.must = required(p, near.RequiredDuringSchedulingIgnoredDuringExecution, labels.Nothing())
		t.like = weighted(p, near.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if far := a.PodAntiAffinity; far != nil {
		t.mustNot = required(p, far.RequiredDuringSchedulingIgnoredDuringExecution, labels.Everything())
		t.dislike = weighted(p, far.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return t
}

// required reads terms; broken stands for a selector that cannot be read, so that the pod rather waits than goes wrong.
func required(p *corev1.Pod, terms []corev1.PodAffinityTerm, broken labels.Selector) []podTerm {
	var out []podTerm
	for i := range terms {
		out = append(out, newPodTerm(p, &terms[i], broken))
	}
	return out
}

func weighted(p *corev1.Pod, terms []corev1.WeightedPodAffinityTerm) []podTerm {
	var out []podTerm
	for i := range terms {
		t := newPodTerm(p, &terms[i].PodAffinityTerm, labels.Nothing())
		t.weight = int64(terms[i].Weight)
		out = append(out, t)
	}
	return out
}

func newPodTerm(p *corev1.Pod, t *corev1.PodAffinityTerm, broken labels.Selector) podTerm {
	out := podTerm{namespaces: t.Namespaces, key: t.TopologyKey}
	if len(t.Namespaces) == 0 && t.NamespaceSelector == nil {
		out.namespaces = []string{p.Namespace}
	}
	if t.NamespaceSelector != nil {
		spaces, err := metav1.LabelSelectorAsSelector(t.NamespaceSelector)
		if err != nil {
			spaces = broken
		}
		out.spaces = spaces
	}
	s, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
	if err != nil {
		s = broken
	}
	s = withOwn(s, p, t.MatchLabelKeys, selection.In)
	out.selector = withOwn(s, p, t.MismatchLabelKeys, selection.NotIn)
	return out
}

// withOwn narrows a selector to the pod's own values of some labels (or, by NotIn, to others); labels that it lacks say nothing.
func withOwn(s labels.Selector, p *corev1.Pod, keys []string, op selection.Operator) labels.Selector {
	for _, k := range keys {
		value, ok := p.Labels[k]
		if !ok {
			continue
		}
		if r, err := labels.NewRequirement(k, op, []string{value}); err == nil {
			s = s.Add(*r)
		}
	}
	return s
}

func (t *podTerm) matches(v *View, p *corev1.Pod) bool {
	if !slices.Contains(t.namespaces, p.Namespace) && (t.spaces == nil || !t.spaces.Matches(labels.Set(v.spaces[p.Namespace]))) {
		return false
	}
	return t.selector.Matches(labels.Set(p.Labels))
}

func allMatch(terms []podTerm, v *View, p *corev1.Pod) bool {
	for i := range terms {
		if !terms[i].matches(v, p) {
			return false
		}
	}
	return true
}

// domain is a set of nodes near each other.
type domain struct{ key, value string }

func (n *Node) domain(key string) (domain, bool) {
	value, ok := n.node.Labels[key]
	return domain{key, value}, ok
}

// social is what the pods that are placed mean to a pod, by domain.
type social struct {
	terms   *podTerms
	wanted  map[domain]int   // pods that match all its required terms
	unloved map[domain]bool  // where it must not go, by its own word
	barred  map[domain]bool  // where it must not go, by theirs
	keys    []string         // of barred and liking, each once
	liking  map[domain]int64 // sum of weights
	first   bool             // no pod matches, but it would match itself: somebody must be first
}

// newSocial looks at the pods with terms of their own, and at all only if the pod itself has terms.
func newSocial(v *View, p *corev1.Pod) social {
	s := social{terms: termsOf(p)}
	if s.terms == nil && len(v.social) == 0 {
		return s
	}
	s.wanted, s.unloved, s.barred, s.liking = map[domain]int{}, map[domain]bool{}, map[domain]bool{}, map[domain]int64{}
	for _, u := range v.social {
		if u.node.node != nil {
			s.hear(v, u, p)
		}
	}
	if s.terms != nil {
		for _, n := range v.sorted() {
			for _, u := range n.pods {
				s.look(v, n, u.pod)
			}
		}
		s.first = len(s.wanted) == 0 && allMatch(s.terms.must, v, p)
	}
	s.keys = keysOf(s.barred, s.liking)
	return s
}

func keysOf(barred map[domain]bool, liking map[domain]int64) []string {
	keys := map[string]bool{}
	for d := range barred {
		keys[d.key] = true
	}
	for d := range liking {
		keys[d.key] = true
	}
	return slices.Collect(maps.Keys(keys))
}

// hear takes in what a placed pod says about p.
func (s *social) hear(v *View, u *use, p *corev1.Pod) {
	each := func(terms []podTerm, f func(*podTerm, domain)) {
		for i := range terms {
			if d, ok := u.node.domain(terms[i].key); ok && terms[i].matches(v, p) {
				f(&terms[i], d)
			}
		}
	}
	each(u.terms.mustNot, func(_ *podTerm, d domain) { s.barred[d] = true })
	each(u.terms.must, func(_ *podTerm, d domain) { s.liking[d]++ }) // who cannot be without it likes it
	each(u.terms.like, func(t *podTerm, d domain) { s.liking[d] += t.weight })
	each(u.terms.dislike, func(t *podTerm, d domain) { s.liking[d] -= t.weight })
}

// look takes in what the pod says about one that is placed.
func (s *social) look(v *View, n *Node, other *corev1.Pod) {
	each := func(terms []podTerm, f func(*podTerm, domain)) {
		for i := range terms {
			if d, ok := n.domain(terms[i].key); ok && terms[i].matches(v, other) {
				f(&terms[i], d)
			}
		}
	}
	if len(s.terms.must) > 0 && allMatch(s.terms.must, v, other) {
		each(s.terms.must, func(_ *podTerm, d domain) { s.wanted[d]++ })
	}
	each(s.terms.mustNot, func(_ *podTerm, d domain) { s.unloved[d] = true })
	each(s.terms.like, func(t *podTerm, d domain) { s.liking[d] += t.weight })
	each(s.terms.dislike, func(t *podTerm, d domain) { s.liking[d] -= t.weight })
}

func wrongNeighbours(n *Node, want *request) []string {
	s := &want.social
	if s.terms != nil {
		for i := range s.terms.must {
			d, ok := n.domain(s.terms.must[i].key)
			if !ok || s.wanted[d] == 0 && !s.first {
				return []string{"node(s) didn't match pod affinity rules"}
			}
		}
		for i := range s.terms.mustNot {
			if d, ok := n.domain(s.terms.mustNot[i].key); ok && s.unloved[d] {
				return []string{"node(s) didn't match pod anti-affinity rules"}
			}
		}
	}
	for _, key := range s.keys {
		if d, ok := n.domain(key); ok && s.barred[d] {
			return []string{"node(s) didn't satisfy existing pods anti-affinity rules"}
		}
	}
	return nil
}

// neighbours: near what it likes and what likes it, far from the rest.
func neighbours(fit []*Node, want *request, out []float64) {
	if len(want.social.liking) == 0 {
		return
	}
	for i, n := range fit {
		for _, key := range want.social.keys {
			if d, ok := n.domain(key); ok {
				out[i] += float64(want.social.liking[d])
			}
		}
	}
	least := slices.Min(out)
	for i := range out {
		out[i] -= least
	}
	most(out)
}
