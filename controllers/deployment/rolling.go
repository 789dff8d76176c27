// SPDX-License-Identifier: Apache-2.0

package deployment

import (
	appsv1 "k8s.io/api/apps/v1"

	"github.com/knarr/knarr/state/reconcile"
)

// newSize is what the new ReplicaSet may have now: all of it with Recreate, else as much as fits under maxSurge.
func newSize(d *appsv1.Deployment, sets []*appsv1.ReplicaSet, have int32) int32 {
	if d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType {
		return replicas(d)
	}
	if have >= replicas(d) {
		return replicas(d)
	}
	room := replicas(d) + maxSurge(d) - total(sets)
	return have + min(max(room, 0), replicas(d)-have)
}

// roll moves a rolling update on: first up, and if there was nothing to do, down.
func roll(s *State, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) []reconcile.Action {
	d := s.Deployment
	if up := resize(d, current, newSize(d, s.Sets, size(current))); len(up) > 0 {
		return up
	}
	return shrink(s, current, old)
}

// shrink scales old ReplicaSets down as far as maxUnavailable allows: pods that are not available anyway first, whatever
// their ReplicaSet, then from the oldest on.
func shrink(s *State, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) []reconcile.Action {
	d := s.Deployment
	if total(old) == 0 {
		return nil
	}
	_, unavailable := bounds(d)
	least := replicas(d) - unavailable
	pending := size(current) - current.Status.AvailableReplicas // new ones may still fail: they count as missing
	room := total(s.Sets) - least - pending
	if room <= 0 {
		return nil
	}
	sizes := make([]int32, len(old))
	for i, rs := range old {
		sizes[i] = size(rs)
	}
	for i, rs := range old {
		if unhealthy := size(rs) - rs.Status.AvailableReplicas; unhealthy > 0 {
			n := min(unhealthy, room)
			sizes[i] -= n
			room -= n
		}
	}
	spare := -least
	for _, rs := range s.Sets {
		// A set that was just scaled down still counts the pods it is about to lose.
		spare += min(rs.Status.AvailableReplicas, size(rs))
	}
	for i := range old {
		n := min(sizes[i], max(spare, 0))
		// Those that were just taken for unhealthy are none of the available ones, so they do not use up the spare ones.
		sizes[i] -= n
		spare -= n
	}
	var out []reconcile.Action
	for i, rs := range old {
		if sizes[i] != size(rs) {
			out = append(out, resize(d, rs, sizes[i])...)
		}
	}
	return out
}

// recreate stops everything old, waits until it has ended, and only then lets the new ReplicaSet be.
func recreate(s *State, old []*appsv1.ReplicaSet) (down []reconcile.Action, wait bool) {
	for _, rs := range inUse(old) {
		down = append(down, resize(s.Deployment, rs, 0)...)
	}
	return down, len(down) > 0 || s.OldPods
}
