// SPDX-License-Identifier: Apache-2.0

package nodelife

import (
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/state/reconcile"
)

// forever is a toleration without an end.
const forever = time.Duration(math.MaxInt64)

// left is how long a pod may stay on its node still; zero or less: it must go.
func left(p *corev1.Pod, taints []corev1.Taint, now time.Time) time.Duration {
	least := forever
	for _, t := range taints {
		if t.Effect != corev1.TaintEffectNoExecute {
			continue
		}
		stay := tolerated(p, t)
		if stay == forever {
			continue
		}
		since := now
		if t.TimeAdded != nil {
			since = t.TimeAdded.Time
		}
		least = min(least, stay-now.Sub(since))
	}
	return least
}

// tolerated is how long a pod tolerates a taint: the shortest of the tolerations that match, for one with seconds ends
// whatever others say; not at all without any.
func tolerated(p *corev1.Pod, t corev1.Taint) time.Duration {
	found, least := false, forever
	for i := range p.Spec.Tolerations {
		tol := &p.Spec.Tolerations[i]
		if !tolerates(tol, &t) {
			continue
		}
		found = true
		if tol.TolerationSeconds != nil {
			least = min(least, time.Duration(max(0, *tol.TolerationSeconds))*time.Second)
		}
	}
	if !found {
		return 0
	}
	return least
}

// tolerates compares one toleration with one taint: an empty key or effect matches all.
func tolerates(tol *corev1.Toleration, t *corev1.Taint) bool {
	if tol.Effect != "" && tol.Effect != t.Effect || tol.Key != "" && tol.Key != t.Key {
		return false
	}
	switch tol.Operator {
	case corev1.TolerationOpExists:
		return true
	case "", corev1.TolerationOpEqual:
		return tol.Value == t.Value
	}
	return false
}

// evict deletes the pods whose time is over, and says when the next one's is.
func evict(s State) (acts []reconcile.Action, again time.Duration) {
	var batch reconcile.Batch
	for _, p := range s.Pods {
		if p.DeletionTimestamp != nil {
			continue
		}
		switch d := left(p, s.Node.Spec.Taints, s.Now); {
		case d == forever:
		case d > 0:
			if again == 0 || d < again {
				again = d
			}
		default:
			batch.Actions = append(batch.Actions, reconcile.Delete{Object: p})
			acts = append(acts, reconcile.Event{
				Regarding: p, Type: corev1.EventTypeNormal, Reason: "TaintManagerEviction",
				Message: fmt.Sprintf("Marking for deletion Pod %s/%s", p.Namespace, p.Name),
			})
		}
	}
	if len(batch.Actions) > 0 {
		acts = append([]reconcile.Action{batch}, acts...)
	}
	return acts, again
}

// unready marks the pods of a node that does not answer: Services must not send to them.
func unready(s State) []reconcile.Action {
	var batch reconcile.Batch
	var told []reconcile.Action
	for _, p := range s.Pods {
		if !pods.Ready(p) {
			continue
		}
		c := p.DeepCopy()
		ready := pods.Condition(c, corev1.PodReady)
		ready.Status, ready.LastTransitionTime = corev1.ConditionFalse, metav1.NewTime(s.Now).Rfc3339Copy()
		batch.Actions = append(batch.Actions, reconcile.UpdateStatus{Object: c})
		told = append(told, reconcile.Event{Regarding: p, Type: corev1.EventTypeWarning, Reason: "NodeNotReady", Message: "Node is not ready"})
	}
	if len(batch.Actions) == 0 {
		return nil
	}
	return append([]reconcile.Action{batch}, told...)
}
