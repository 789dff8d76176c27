// SPDX-License-Identifier: Apache-2.0

package statefulset

import (
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/controllers/revisions"
	"github.com/knarr/knarr/state/reconcile"
)

// revisionLabel is on a revision; the pods' label names the revision itself.
const revisionLabel = "controller.kubernetes.io/hash"

func ownerRef(set *appsv1.StatefulSet) metav1.OwnerReference {
	return *metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))
}

// Decide says what to do next for one StatefulSet: claim what is its own, remember the template, then the pods that are
// missing, those that are too many, and those of an older template, in that order.
func Decide(s State) reconcile.Plan {
	set := s.Set
	if set.DeletionTimestamp == nil {
		if acts := claim(&s); len(acts) > 0 {
			return reconcile.Plan{Actions: acts, Why: "pods or revisions are adopted or released"}
		}
	}
	update := s.History.Find(revisions.Data(&set.Spec.Template))
	switch {
	case update == nil && set.DeletionTimestamp != nil:
		return reconcile.Plan{}
	case update == nil:
		return remember(&s)
	case set.DeletionTimestamp == nil:
		if acts := s.History.Renumber(update); len(acts) > 0 {
			return reconcile.Plan{Actions: acts, Why: "an old template came back"}
		}
	}
	p := &pass{State: s, update: update, current: update}
	for _, r := range s.History.Own {
		if r.Name == set.Status.CurrentRevision {
			p.current = r
		}
	}
	p.sort()
	st := p.status()
	if set.DeletionTimestamp == nil {
		_ = p.fill() && p.shrink() && p.roll()
	}
	out := reconcile.Plan{Again: p.again, Why: p.why}
	if !equality.Semantic.DeepEqual(st, set.Status) {
		c := set.DeepCopy()
		c.Status = st
		out.Actions = append(out.Actions, reconcile.UpdateStatus{Object: c})
	}
	if len(p.acts) == 0 && set.DeletionTimestamp == nil {
		p.acts = s.History.Prune(set.Spec.RevisionHistoryLimit, p.live)
	}
	out.Actions = append(out.Actions, p.acts...)
	return out
}

// pass collects what one Decide finds.
type pass struct {
	State
	current, update *appsv1.ControllerRevision // of the pods that were, and of those to be
	wanted          []*corev1.Pod              // by ordinal, from the first; nil: missing
	extra           []*corev1.Pod              // highest ordinal first
	acts            []reconcile.Action
	again           time.Duration
	why             string
}

func (p *pass) sort() {
	p.wanted = make([]*corev1.Pod, replicas(p.Set))
	from := first(p.Set)
	for _, x := range p.Pods {
		switch n := ordinal(p.Set, x) - from; {
		case n+from < 0:
		case n >= 0 && n < len(p.wanted):
			p.wanted[n] = x
		default:
			p.extra = append(p.extra, x)
		}
	}
	slices.SortFunc(p.extra, func(a, b *corev1.Pod) int { return ordinal(p.Set, b) - ordinal(p.Set, a) })
}

func (p *pass) ordered() bool { return p.Set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement }

func works(x *corev1.Pod) bool { return x.Status.Phase == corev1.PodRunning && pods.Ready(x) }

func (p *pass) available(x *corev1.Pod) bool {
	if !works(x) {
		return false
	}
	ok, in := pods.Available(x, p.Set.Spec.MinReadySeconds, p.Now)
	if in > 0 && (p.again == 0 || in < p.again) {
		p.again = in
	}
	return ok
}

func (p *pass) event(kind, reason, message string) reconcile.Event {
	return reconcile.Event{Regarding: p.Set, Type: kind, Reason: reason, Message: message}
}

func (p *pass) remove(x *corev1.Pod, why string) {
	p.why = why
	p.acts = append(p.acts, reconcile.Delete{Object: x}, p.event(corev1.EventTypeNormal, "SuccessfulDelete",
		fmt.Sprintf("delete Pod %s in StatefulSet %s successful", x.Name, p.Set.Name)))
}

// fill makes the pods that are missing, lowest ordinal first. False: the rest must wait for it.
func (p *pass) fill() bool {
	for i, x := range p.wanted {
		n := first(p.Set) + i
		if x == nil {
			p.why = fmt.Sprintf("pod %d is missing", n)
			p.acts = append(append(p.acts, p.claims(n)...), p.create(n)...)
			if p.ordered() {
				return false
			}
			continue
		}
		if pods.Ended(x) && x.DeletionTimestamp == nil {
			reason, word, kind := "RecreatingFailedPod", "failed", corev1.EventTypeWarning
			if x.Status.Phase == corev1.PodSucceeded {
				reason, word, kind = "RecreatingTerminatedPod", "terminated", corev1.EventTypeNormal
			}
			p.acts = append(p.acts, p.event(kind, reason, fmt.Sprintf("StatefulSet %s/%s is recreating %s Pod %s", p.Set.Namespace, p.Set.Name, word, x.Name)))
			p.remove(x, "a pod has ended")
			if p.ordered() {
				return false
			}
			continue
		}
		if x.Status.Phase == corev1.PodPending || x.Status.Phase == "" {
			p.acts = append(p.acts, p.claims(n)...)
		}
		p.acts = append(p.acts, p.retain(x, false)...)
		if x.DeletionTimestamp == nil && !named(x, n) {
			c := x.DeepCopy()
			name(c, n)
			p.acts = append(p.acts, reconcile.Update{Object: c})
		}
		if p.ordered() && (x.DeletionTimestamp != nil || !p.available(x)) {
			return false
		}
	}
	return true
}

// shrink deletes the pods that are too many, highest ordinal first. False: the rest must wait for it.
func (p *pass) shrink() bool {
	for _, x := range p.extra {
		p.acts = append(p.acts, p.retain(x, true)...)
		switch {
		case x.DeletionTimestamp == nil:
			p.remove(x, "there are more pods than wanted")
		case !p.ordered():
			continue
		}
		if p.ordered() {
			return false
		}
	}
	return len(p.extra) == 0
}

// live: pods are of it, or will be.
func (p *pass) live(r *appsv1.ControllerRevision) bool {
	return r == p.current || r == p.update || slices.ContainsFunc(p.Pods, func(x *corev1.Pod) bool {
		return x.Labels[appsv1.ControllerRevisionHashLabelKey] == r.Name
	})
}

// remember makes the revision of a new template; a name that another has is counted as a collision.
func remember(s *State) reconcile.Plan {
	set := s.Set
	if s.Namesake {
		c := set.DeepCopy()
		n := int32(1)
		if c.Status.CollisionCount != nil {
			n = *c.Status.CollisionCount + 1
		}
		c.Status.CollisionCount = &n
		return reconcile.Plan{Status: c, Why: "the name of its revision is taken"}
	}
	r := s.History.New(set, ownerRef(set), &set.Spec.Template, revisionLabel, hash(set))
	return reconcile.Plan{Actions: []reconcile.Action{reconcile.Create{Object: r}}, Why: "there is no revision of this template yet"}
}

// claim adopts and releases.
func claim(s *State) []reconcile.Action {
	out := s.History.Adopt(ownerRef(s.Set))
	for _, x := range s.Orphans {
		if x.DeletionTimestamp == nil {
			c := x.DeepCopy()
			c.OwnerReferences = pods.Adopted(c.OwnerReferences, ownerRef(s.Set))
			out = append(out, reconcile.Update{Object: c})
		}
	}
	for _, x := range s.Pods {
		if x.DeletionTimestamp == nil && (!pods.Matches(s.Set.Spec.Selector, x.Labels) || ordinal(s.Set, x) < 0) {
			c := x.DeepCopy()
			c.OwnerReferences = pods.Released(c.OwnerReferences, s.Set)
			out = append(out, reconcile.Update{Object: c})
		}
	}
	return out
}
