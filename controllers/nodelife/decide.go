// SPDX-License-Identifier: Apache-2.0

package nodelife

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/state/reconcile"
)

// Decide says what to do next for one node: first its conditions, then its taints, then its pods; each in a pass of its
// own, for each follows from the one before.
func Decide(s State) reconcile.Plan {
	if s.Node.DeletionTimestamp != nil {
		return reconcile.Plan{}
	}
	silence := s.Now.Sub(heard(s))
	again := grace - silence + time.Second
	if silence > grace {
		again = 0 // the next Lease will tell
		if c := silenced(s); c != nil {
			return reconcile.Plan{Status: c, Why: fmt.Sprintf("nothing was heard from it for %s", silence.Round(time.Second)),
				Actions: []reconcile.Action{reconcile.Event{
					Regarding: s.Node, Type: corev1.EventTypeNormal, Reason: "NodeNotReady",
					Message: fmt.Sprintf("Node %s status is now: NodeNotReady", s.Node.Name),
				}}}
		}
	}
	if c := tainted(s); c != nil {
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Update{Object: c}}, Again: again, Why: "its taints must follow its conditions"}
	}
	acts, due := evict(s)
	if ready := conditionOf(s.Node, corev1.NodeReady); ready != nil && ready.Status != corev1.ConditionTrue {
		acts = append(unready(s), acts...)
	}
	if due > 0 && (again == 0 || due < again) {
		again = due
	}
	return reconcile.Plan{Actions: acts, Again: again, Why: "its pods must not count on it"}
}
