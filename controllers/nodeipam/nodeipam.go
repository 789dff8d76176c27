// SPDX-License-Identifier: Apache-2.0

// Package nodeipam gives every node its part of the cluster's pod addresses: spec.podCIDR, the lowest free /24 (of a cluster
// range smaller than that: all of it, for one node).
//
// All nodes are one key, so that one Decide sees every part that is taken; a node keeps its part for life, and a deleted
// node's part is free again. Decide is pure; the package keeps no state.
package nodeipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// partBits is the size of a node's part: 254 addresses, for 110 pods.
const partBits = 24

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Cluster netip.Prefix
	Nodes   []*corev1.Node
}

// Controller gives out parts of cluster.
func Controller(cluster netip.Prefix) reconcile.Controller {
	return reconcile.Define("node-ipam-controller", []reconcile.Watch{
		reconcile.If(reconcile.Mapped(func(*cache.Snapshot, *corev1.Node) []reconcile.Key { return []reconcile.Key{{Name: "nodes"}} }),
			func(old, new *corev1.Node) bool { return old.Spec.PodCIDR != new.Spec.PodCIDR }),
	}, func(s *cache.Snapshot, _ reconcile.Key, _ time.Time) (State, bool) {
		return State{Cluster: cluster, Nodes: slices.Collect(cache.List[corev1.Node](s, ""))}, true
	}, Decide)
}

// Decide gives a part to each node that has none, the oldest node first.
func Decide(s State) reconcile.Plan {
	var taken []netip.Prefix
	var without []*corev1.Node
	for _, n := range s.Nodes {
		for _, c := range n.Spec.PodCIDRs {
			if p, err := netip.ParsePrefix(c); err == nil {
				taken = append(taken, p)
			}
		}
		if n.Spec.PodCIDR == "" && n.DeletionTimestamp == nil {
			without = append(without, n)
		}
	}
	slices.SortStableFunc(without, func(a, b *corev1.Node) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	var plan reconcile.Plan
	for _, n := range without {
		part, ok := free(s.Cluster, taken)
		if !ok {
			plan.Actions = append(plan.Actions, reconcile.Event{
				Regarding: n, Type: corev1.EventTypeWarning, Reason: "CIDRNotAvailable",
				Message: fmt.Sprintf("All of the pod range %s is taken; node %s can run no pods with an address of their own", s.Cluster, n.Name),
			})
			continue
		}
		taken = append(taken, part)
		c := n.DeepCopy()
		c.Spec.PodCIDR, c.Spec.PodCIDRs = part.String(), []string{part.String()}
		plan.Actions = append(plan.Actions, reconcile.Update{Object: c})
		plan.Why = "a node has no pod addresses yet"
	}
	return plan
}

// free is the lowest part of the cluster's range that overlaps none of taken.
func free(cluster netip.Prefix, taken []netip.Prefix) (netip.Prefix, bool) {
	bits := max(partBits, cluster.Bits())
	if cluster.Addr().Is6() {
		bits = max(64, cluster.Bits())
	}
	for part := netip.PrefixFrom(cluster.Masked().Addr(), bits); cluster.Contains(part.Addr()); {
		clash := slices.IndexFunc(taken, part.Overlaps)
		if clash < 0 {
			return part, true
		}
		next, ok := after(part, taken[clash])
		if !ok {
			break
		}
		part = next
	}
	return netip.Prefix{}, false
}

// after is the first part behind both part and what it clashes with.
func after(part, clash netip.Prefix) (netip.Prefix, bool) {
	wide := part
	if clash.Bits() < part.Bits() {
		wide = clash.Masked()
	}
	a := wide.Addr().AsSlice()
	for i := (wide.Bits() - 1) / 8; i >= 0; i-- {
		step := 0
		if i == (wide.Bits()-1)/8 {
			step = 1 << (7 - (wide.Bits()-1)%8)
		} else {
			step = 1
		}
		sum := int(a[i]) + step
		a[i] = byte(sum)
		if sum < 256 {
			addr, ok := netip.AddrFromSlice(a)
			return netip.PrefixFrom(addr, part.Bits()), ok
		}
	}
	return netip.Prefix{}, false
}
