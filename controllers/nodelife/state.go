// SPDX-License-Identifier: Apache-2.0

// Package nodelife watches over nodes: one that has not renewed its Lease for 40 seconds is not known to live.
//
// Its conditions become Unknown, it gets the taints unreachable or not-ready, its pods are marked not ready, and those that
// do not tolerate the taint are deleted, after the seconds they tolerate it (300 by default, by admission). The taints that
// mirror other conditions, and spec.unschedulable, are kept here too.
//
// The Lease's time is the node's clock: nodes whose clocks are more than about half a minute slow are taken for dead.
// Decide is pure. Files: state.go, conditions.go, taints.go, evict.go, decide.go.
package nodelife

import (
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// grace is how long a node may be silent: Kubernetes' node-monitor-grace-period was 40 s for most of its life.
const grace = 40 * time.Second

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Node  *corev1.Node
	Lease *coordinationv1.Lease // nil: it has none
	Pods  []*corev1.Pod         // on the node
	Since time.Time             // when this controller began to listen: silence before it means nothing
	Now   time.Time
}

// Controller watches over nodes. Its one memory is when it looked first: after the whole cluster was down, all Leases are
// old, and nobody is to blame.
func Controller() reconcile.Controller {
	var first sync.Once
	var since time.Time
	return reconcile.Define("node-controller", []reconcile.Watch{
		reconcile.Objects[corev1.Node](),
		reconcile.Mapped(func(_ *cache.Snapshot, l *coordinationv1.Lease) []reconcile.Key {
			if l.Namespace != corev1.NamespaceNodeLease {
				return nil
			}
			return []reconcile.Key{{Name: l.Name}}
		}),
		reconcile.If(reconcile.Mapped(func(s *cache.Snapshot, p *corev1.Pod) []reconcile.Key {
			n, ok := cache.Get[corev1.Node](s, "", p.Spec.NodeName)
			if !ok || !troubled(n) {
				return nil // pods of healthy nodes are of no interest
			}
			return []reconcile.Key{{Name: n.Name}}
		}), func(old, new *corev1.Pod) bool { return old.Spec.NodeName != new.Spec.NodeName }),
	}, func(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
		first.Do(func() { since = now })
		st, ok := Observe(s, k, now)
		st.Since = since
		return st, ok
	}, Decide)
}

func troubled(n *corev1.Node) bool {
	for _, t := range n.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			return true
		}
	}
	return false
}

// Observe gathers a node, its Lease and its pods.
func Observe(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
	n, ok := cache.Get[corev1.Node](s, "", k.Name)
	if !ok {
		return State{}, false
	}
	st := State{Node: n, Now: now}
	st.Lease, _ = cache.Get[coordinationv1.Lease](s, corev1.NamespaceNodeLease, n.Name)
	for p := range cache.Indexed[corev1.Pod](s, cache.ByNode, n.Name) {
		st.Pods = append(st.Pods, p)
	}
	return st, true
}
