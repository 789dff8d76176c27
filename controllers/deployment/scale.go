// SPDX-License-Identifier: Apache-2.0

package deployment

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/knarr/knarr/state/reconcile"
)

func replicas(d *appsv1.Deployment) int32 { return number32(d.Spec.Replicas) }
func size(rs *appsv1.ReplicaSet) int32    { return number32(rs.Spec.Replicas) }

func number32(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// bounds are maxSurge and maxUnavailable in pods. Should both come to nothing, one pod may be unavailable, for else the
// rollout could never move.
func bounds(d *appsv1.Deployment) (surge, unavailable int32) {
	r := d.Spec.Strategy.RollingUpdate
	if d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType || r == nil {
		return 0, 0
	}
	surge = share(r.MaxSurge, replicas(d), true)
	unavailable = share(r.MaxUnavailable, replicas(d), false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, min(unavailable, replicas(d))
}

func share(v *intstr.IntOrString, of int32, up bool) int32 {
	if v == nil {
		return 0
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(v, int(of), up)
	if err != nil {
		return 0
	}
	return int32(n)
}

func maxSurge(d *appsv1.Deployment) int32 {
	surge, _ := bounds(d)
	return surge
}

func total(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += size(rs)
	}
	return n
}

func available(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += rs.Status.AvailableReplicas
	}
	return n
}

func inUse(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	var out []*appsv1.ReplicaSet
	for _, rs := range sets {
		if size(rs) > 0 {
			out = append(out, rs)
		}
	}
	return out
}

// resize is the change of one ReplicaSet to n, with its event; nothing if it is that already.
func resize(d *appsv1.Deployment, rs *appsv1.ReplicaSet, n int32) []reconcile.Action {
	c := rs.DeepCopy()
	c.Spec.Replicas = &n
	noted := noteSize(c, d)
	if size(rs) == n {
		if noted {
			return []reconcile.Action{reconcile.Update{Object: c}}
		}
		return nil
	}
	return []reconcile.Action{reconcile.Update{Object: c}, scaled(d, rs.Name, size(rs), n)}
}

func scaled(d *appsv1.Deployment, set string, from, to int32) reconcile.Event {
	way := "up"
	if to < from {
		way = "down"
	}
	return reconcile.Event{
		Regarding: d, Type: corev1.EventTypeNormal, Reason: "ScalingReplicaSet",
		Message: fmt.Sprintf("Scaled %s replica set %s from %d to %d", way, set, from, to),
	}
}

// resized: people changed the number of replicas since a ReplicaSet in use was last scaled.
func resized(s *State) bool {
	for _, rs := range inUse(s.Sets) {
		if noted, err := strconv.Atoi(rs.Annotations[desiredKey]); err == nil && int32(noted) != replicas(s.Deployment) {
			return true
		}
	}
	return false
}

// spread brings the sum of all ReplicaSets to what the Deployment wants, in the middle of a rollout too: in proportion to
// their sizes, so that a failure of the new template costs no more than before.
func spread(s *State, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) []reconcile.Action {
	d := s.Deployment
	if only := soleSet(current, old); only != nil {
		return resize(d, only, replicas(d))
	}
	if saturated(d, current) {
		var out []reconcile.Action
		for _, rs := range inUse(old) {
			out = append(out, resize(d, rs, 0)...)
		}
		return out
	}
	if d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType {
		var noted []reconcile.Action // Recreate sets the sizes by itself; the change is seen
		for _, rs := range inUse(s.Sets) {
			noted = append(noted, resize(d, rs, size(rs))...)
		}
		return noted
	}
	return proportional(d, inUse(s.Sets))
}

// soleSet is the only ReplicaSet in use, or if none is the newest; nil when several are.
func soleSet(current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	all := old
	if current != nil {
		all = append(slices.Clone(old), current)
	}
	switch used := inUse(all); {
	case len(used) == 1:
		return used[0]
	case len(used) > 1:
		return nil
	case current != nil:
		return current
	case len(old) > 0:
		return old[len(old)-1]
	}
	return nil
}

// saturated: the new ReplicaSet has all that is wanted, made and available.
func saturated(d *appsv1.Deployment, rs *appsv1.ReplicaSet) bool {
	if rs == nil {
		return false
	}
	desired, err := strconv.Atoi(rs.Annotations[desiredKey])
	return err == nil && size(rs) == replicas(d) && int32(desired) == replicas(d) && rs.Status.AvailableReplicas == replicas(d)
}

func proportional(d *appsv1.Deployment, used []*appsv1.ReplicaSet) []reconcile.Action {
	allowed := int32(0)
	if replicas(d) > 0 {
		allowed = replicas(d) + maxSurge(d)
	}
	add := allowed - total(used)
	sorted := slices.Clone(used)
	slices.SortStableFunc(sorted, func(a, b *appsv1.ReplicaSet) int {
		if add > 0 { // the biggest first; among equals the newer gains
			return cmp.Or(cmp.Compare(size(b), size(a)), older(b, a))
		}
		return cmp.Or(cmp.Compare(size(b), size(a)), older(a, b)) // and the older loses
	})
	sizes := make([]int32, len(sorted))
	added := int32(0)
	for i, rs := range sorted {
		sizes[i] = size(rs)
		if add != 0 {
			part := proportion(d, rs, add, added)
			sizes[i] += part
			added += part
		}
	}
	var out []reconcile.Action
	for i, rs := range sorted {
		if i == 0 && add != 0 { // what rounding left
			sizes[i] = max(0, sizes[i]+add-added)
		}
		out = append(out, resize(d, rs, sizes[i])...)
	}
	return out
}

// proportion is how many of add pods one ReplicaSet takes, when added are given out already.
func proportion(d *appsv1.Deployment, rs *appsv1.ReplicaSet, add, added int32) int32 {
	if size(rs) == 0 || add == added {
		return 0
	}
	part := -size(rs)
	if replicas(d) > 0 {
		before, err := strconv.Atoi(rs.Annotations[maxKey])
		if err != nil {
			before = int(d.Status.Replicas)
		}
		if before == 0 {
			return 0
		}
		grown := float64(size(rs)) * float64(replicas(d)+maxSurge(d)) / float64(before)
		part = int32(math.Round(grown)) - size(rs)
	}
	if add > 0 {
		return min(part, add-added)
	}
	return max(part, add-added)
}
