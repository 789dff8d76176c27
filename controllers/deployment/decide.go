// SPDX-License-Identifier: Apache-2.0

package deployment

import (
	"fmt"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/state/reconcile"
)

// Decide says what to do next for one Deployment.
//
//	deleted     the status only
//	paused      spread a change of replicas over what there is; no new template
//	resized     spread, and nothing else in this pass
//	Recreate    old to zero, wait for their pods, new to all
//	Rolling     number the revision; new up within maxSurge; old down within maxUnavailable
func Decide(s State) reconcile.Plan {
	d := s.Deployment
	current := findNew(d, s.Sets)
	var old []*appsv1.ReplicaSet
	for _, rs := range s.Sets {
		if rs != current {
			old = append(old, rs)
		}
	}
	if d.DeletionTimestamp != nil {
		return withStatus(&s, current, nil, "it is being deleted")
	}
	if acts := adopt(&s); len(acts) > 0 {
		return reconcile.Plan{Actions: acts, Why: "a replica set without an owner matches the selector"}
	}
	if current != nil {
		if acts := number(&s, current); len(acts) > 0 {
			return reconcile.Plan{Actions: acts, Why: "the new replica set becomes the newest revision"}
		}
	}
	switch {
	case d.Spec.Paused:
		return withStatus(&s, current, append(spread(&s, current, old), cleanup(d, old)...), "it is paused")
	case resized(&s):
		return withStatus(&s, current, spread(&s, current, old), "the number of replicas changed")
	case d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		down, wait := recreate(&s, old)
		if wait {
			return withStatus(&s, current, down, "pods of older templates must end first")
		}
	}
	if current == nil {
		return begin(&s)
	}
	var acts []reconcile.Action
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		acts = resize(d, current, replicas(d))
	} else {
		acts = roll(&s, current, old)
	}
	if len(acts) == 0 && complete(d, &d.Status) {
		acts = cleanup(d, old)
	}
	return withStatus(&s, current, acts, "the rollout goes on")
}

// begin makes the ReplicaSet of a new template; a name that another template has is counted as a collision.
func begin(s *State) reconcile.Plan {
	d := s.Deployment
	if s.Namesake != nil {
		c := d.DeepCopy()
		n := int32(1)
		if c.Status.CollisionCount != nil {
			n = *c.Status.CollisionCount + 1
		}
		c.Status.CollisionCount = &n
		return reconcile.Plan{Status: c, Why: fmt.Sprintf("the name %s is taken", s.Namesake.Name)}
	}
	rs := newSet(d, newSize(d, s.Sets, 0), strconv.FormatInt(nextRevision(s.Sets, nil), 10))
	acts := []reconcile.Action{reconcile.Create{Object: rs}}
	if size(rs) > 0 {
		acts = append(acts, scaled(d, rs.Name, 0, size(rs)))
	}
	p := withStatus(s, nil, acts, "there is no replica set of this template yet")
	if d.Spec.ProgressDeadlineSeconds != nil {
		c := d.DeepCopy()
		if p.Status != nil {
			c = p.Status.(*appsv1.Deployment)
		}
		setCondition(&c.Status, progressing(s.Now, true, "NewReplicaSetCreated", fmt.Sprintf("Created new replica set %q", rs.Name)))
		p.Status = c
	}
	return p
}

func adopt(s *State) []reconcile.Action {
	var out []reconcile.Action
	for _, rs := range s.Orphans {
		c := rs.DeepCopy()
		c.OwnerReferences = pods.Adopted(c.OwnerReferences,
			*metav1.NewControllerRef(s.Deployment, appsv1.SchemeGroupVersion.WithKind("Deployment")))
		out = append(out, reconcile.Update{Object: c})
	}
	for _, rs := range s.Sets {
		if rs.DeletionTimestamp == nil && !pods.Matches(s.Deployment.Spec.Selector, rs.Labels) {
			c := rs.DeepCopy()
			c.OwnerReferences = pods.Released(c.OwnerReferences, s.Deployment)
			out = append(out, reconcile.Update{Object: c})
		}
	}
	return out
}

// cleanup removes the oldest revisions past the limit, if nothing of them is left.
func cleanup(d *appsv1.Deployment, old []*appsv1.ReplicaSet) []reconcile.Action {
	if d.Spec.RevisionHistoryLimit == nil {
		return nil
	}
	var alive []*appsv1.ReplicaSet
	for _, rs := range old {
		if rs.DeletionTimestamp == nil {
			alive = append(alive, rs)
		}
	}
	slices.SortStableFunc(alive, func(a, b *appsv1.ReplicaSet) int {
		return int(revision(a.Annotations) - revision(b.Annotations))
	})
	var out []reconcile.Action
	for _, rs := range alive[:max(0, len(alive)-int(*d.Spec.RevisionHistoryLimit))] {
		if rs.Status.Replicas == 0 && size(rs) == 0 && rs.Generation <= rs.Status.ObservedGeneration {
			out = append(out, reconcile.Delete{Object: rs})
		}
	}
	return out
}
