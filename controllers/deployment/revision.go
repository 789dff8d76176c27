// SPDX-License-Identifier: Apache-2.0

package deployment

import (
	"maps"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/state/reconcile"
)

// The annotations that kubectl rollout and this controller read.
const (
	revisionKey        = "deployment.kubernetes.io/revision"
	revisionHistoryKey = "deployment.kubernetes.io/revision-history"
	desiredKey         = "deployment.kubernetes.io/desired-replicas"
	maxKey             = "deployment.kubernetes.io/max-replicas"
	rollbackKey        = "deprecated.deployment.rollback.to"
)

// own are annotations that are not copied from a Deployment to its ReplicaSets.
var own = [...]string{
	corev1.LastAppliedConfigAnnotation, revisionKey, revisionHistoryKey, desiredKey, maxKey, rollbackKey,
}

func isOwn(key string) bool {
	for _, k := range own {
		if k == key {
			return true
		}
	}
	return false
}

// revision is the number in the annotation; 0 when there is none to read.
func revision(annotations map[string]string) int64 {
	n, err := strconv.ParseInt(annotations[revisionKey], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// nextRevision is what the new ReplicaSet must at least have: one more than any older one.
func nextRevision(sets []*appsv1.ReplicaSet, except *appsv1.ReplicaSet) int64 {
	var most int64
	for _, rs := range sets {
		if rs != except {
			most = max(most, revision(rs.Annotations))
		}
	}
	return most + 1
}

// historyLimit bounds the annotation that lists past revisions.
const historyLimit = 2000

// setAnnotations are the annotations of a ReplicaSet: the Deployment's, and its revision. One that rises, because an old
// template came back, is remembered in the history annotation.
func setAnnotations(d *appsv1.Deployment, have map[string]string, rev string) map[string]string {
	out := maps.Clone(have)
	if out == nil {
		out = map[string]string{}
	}
	for k, v := range d.Annotations {
		if !isOwn(k) {
			out[k] = v
		}
	}
	if old := out[revisionKey]; old != rev {
		if old != "" {
			past := strings.Split(out[revisionHistoryKey], ",")
			if past[0] == "" {
				past = nil
			}
			text := strings.Join(append(past, old), ",")
			for len(text) > historyLimit {
				_, text, _ = strings.Cut(text, ",")
			}
			out[revisionHistoryKey] = text
		}
		out[revisionKey] = rev
	}
	return out
}

// noteSize writes into a ReplicaSet how big its Deployment wanted to be when it was last scaled: a later difference means
// that people changed the number.
func noteSize(rs *appsv1.ReplicaSet, d *appsv1.Deployment) bool {
	desired := strconv.Itoa(int(replicas(d)))
	most := strconv.Itoa(int(replicas(d) + maxSurge(d)))
	if rs.Annotations[desiredKey] == desired && rs.Annotations[maxKey] == most {
		return false
	}
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	rs.Annotations[desiredKey], rs.Annotations[maxKey] = desired, most
	return true
}

// number brings the revisions of the new ReplicaSet and of the Deployment up to date.
func number(s *State, current *appsv1.ReplicaSet) []reconcile.Action {
	d := s.Deployment
	rev := max(nextRevision(s.Sets, current), revision(current.Annotations))
	var out []reconcile.Action
	c := current.DeepCopy()
	c.Annotations = setAnnotations(d, c.Annotations, strconv.FormatInt(rev, 10))
	if !maps.Equal(c.Annotations, current.Annotations) || c.Spec.MinReadySeconds != d.Spec.MinReadySeconds {
		c.Spec.MinReadySeconds = d.Spec.MinReadySeconds
		out = append(out, reconcile.Update{Object: c})
	}
	if revision(d.Annotations) != rev {
		c := d.DeepCopy()
		if c.Annotations == nil {
			c.Annotations = map[string]string{}
		}
		c.Annotations[revisionKey] = strconv.FormatInt(rev, 10)
		out = append(out, reconcile.Update{Object: c})
	}
	return out
}
