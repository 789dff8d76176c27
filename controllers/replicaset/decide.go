// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/knarr/knarr/controllers/naming"
	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/reconcile"
)

// burst is how many pods one pass makes or deletes at most.
const burst = 500

// Decide says what to do next for one ReplicaSet.
func Decide(s State) reconcile.Plan {
	var p reconcile.Plan
	rs := s.ReplicaSet
	if rs.DeletionTimestamp == nil {
		if p.Actions = claims(s); len(p.Actions) > 0 {
			p.Why = "pods are adopted or released"
			return p
		}
	}
	active := activePods(s.Owned)
	missing := wanted(rs) - len(active)
	status, again := status(rs, active, s.Now)
	if missing <= 0 {
		forget(&status)
	}
	p.Again = again
	if !equality.Semantic.DeepEqual(status, rs.Status) {
		p.Actions = append(p.Actions, reconcile.UpdateStatus{Object: s.with(status)})
		p.Why = "the counts changed"
	}
	if rs.DeletionTimestamp != nil {
		return p
	}
	switch {
	case missing > 0 && failing(rs):
		// One is enough to see whether it still fails.
		p.Actions = append(p.Actions, create(s, 1, status)...)
		p.Why = fmt.Sprintf("%d pods are missing of %d, and the last creation failed", missing, wanted(rs))
	case missing > 0:
		p.Actions = append(p.Actions, create(s, min(missing, burst), status)...)
		p.Why = fmt.Sprintf("%d pods are missing of %d", missing, wanted(rs))
	case missing < 0:
		p.Actions = append(p.Actions, remove(s, victims(active, s, min(-missing, burst)))...)
		p.Why = fmt.Sprintf("%d pods are too many for %d", -missing, wanted(rs))
	}
	return p
}

func wanted(rs *appsv1.ReplicaSet) int {
	if rs.Spec.Replicas == nil {
		return 1
	}
	return int(*rs.Spec.Replicas)
}

func activePods(all []*corev1.Pod) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range all {
		if pods.Active(p) {
			out = append(out, p)
		}
	}
	return out
}

// claims adopts and releases.
func claims(s State) []reconcile.Action {
	var out []reconcile.Action
	for _, p := range s.Orphans {
		if pods.Active(p) {
			c := p.DeepCopy()
			c.OwnerReferences = pods.Adopted(c.OwnerReferences, s.ownerRef())
			out = append(out, reconcile.Update{Object: c})
		}
	}
	for _, p := range s.Owned {
		if p.DeletionTimestamp == nil && !pods.Matches(s.ReplicaSet.Spec.Selector, p.Labels) {
			c := p.DeepCopy()
			c.OwnerReferences = pods.Released(c.OwnerReferences, s.ReplicaSet)
			out = append(out, reconcile.Update{Object: c})
		}
	}
	return out
}

func create(s State, n int, st appsv1.ReplicaSetStatus) []reconcile.Action {
	rs := s.ReplicaSet
	taken := map[string]bool{}
	for _, p := range s.Owned {
		taken[p.Name] = true
	}
	var batch reconcile.Batch
	var told []reconcile.Action
	for i := 0; len(batch.Actions) < n; i++ {
		p := pods.FromTemplate(&rs.Spec.Template, rs.Namespace, s.ownerRef())
		p.GenerateName = rs.Name + "-"
		p.Name = naming.Generated(p.GenerateName, rs.UID, s.Now, i)
		if taken[p.Name] {
			continue
		}
		taken[p.Name] = true
		one := reconcile.Create{Object: p, Failed: &reconcile.Event{
			Regarding: s.owner(), Type: corev1.EventTypeWarning, Reason: "FailedCreate", Message: "Error creating",
		}}
		if i == 0 && !failing(rs) {
			one.Otherwise = func(err error) kinds.Object { return s.with(failed(st, err, s.Now)) }
		}
		batch.Actions = append(batch.Actions, one)
		told = append(told, reconcile.Event{
			Regarding: s.owner(), Type: corev1.EventTypeNormal, Reason: "SuccessfulCreate", Message: "Created pod: " + p.Name,
		})
	}
	return append([]reconcile.Action{batch}, told...)
}

func remove(s State, victims []*corev1.Pod) []reconcile.Action {
	var batch reconcile.Batch
	var told []reconcile.Action
	for _, p := range victims {
		batch.Actions = append(batch.Actions, reconcile.Delete{Object: p})
		told = append(told, reconcile.Event{
			Regarding: s.owner(), Type: corev1.EventTypeNormal, Reason: "SuccessfulDelete", Message: "Deleted pod: " + p.Name,
		})
	}
	return append([]reconcile.Action{batch}, told...)
}

// status counts; again says when a pod becomes available by time alone.
func status(rs *appsv1.ReplicaSet, active []*corev1.Pod, now time.Time) (st appsv1.ReplicaSetStatus, again time.Duration) {
	st = *rs.Status.DeepCopy()
	st.ObservedGeneration = rs.Generation
	st.Replicas = int32(len(active))
	st.FullyLabeledReplicas, st.ReadyReplicas, st.AvailableReplicas = 0, 0, 0
	for _, p := range active {
		if pods.Has(p.Labels, rs.Spec.Template.Labels) {
			st.FullyLabeledReplicas++
		}
		if !pods.Ready(p) {
			continue
		}
		st.ReadyReplicas++
		ok, in := pods.Available(p, rs.Spec.MinReadySeconds, now)
		if ok {
			st.AvailableReplicas++
		} else if in > 0 && (again == 0 || in < again) {
			again = in
		}
	}
	return st, again
}
