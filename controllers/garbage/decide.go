// SPDX-License-Identifier: Apache-2.0

package garbage

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/reconcile"
)

// Decide says what to do next about one object.
func Decide(s State) reconcile.Plan {
	o := s.Object
	if o.GetDeletionTimestamp() != nil {
		switch {
		case holds(o, metav1.FinalizerOrphanDependents):
			return orphan(s)
		case holds(o, metav1.FinalizerDeleteDependents):
			return foreground(s)
		}
		return reconcile.Plan{}
	}
	switch {
	case len(o.GetOwnerReferences()) == 0:
		return reconcile.Plan{}
	case len(s.Solid) > 0 && len(s.Dangling)+len(s.Waiting) == 0:
		return reconcile.Plan{}
	case len(s.Solid) > 0:
		c := o.DeepCopyObject().(kinds.Object)
		c.SetOwnerReferences(s.Solid)
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Update{Object: c}}, Why: "some of its owners are gone"}
	}
	if len(s.Waiting) > 0 && slices.ContainsFunc(s.Dependents, func(d kinds.Object) bool {
		return d.GetDeletionTimestamp() != nil && holds(d, metav1.FinalizerDeleteDependents)
	}) {
		// The owner that waits for it may be what its own dependent waits for: somewhere such a circle must open.
		return unblock(o)
	}
	return reconcile.Plan{
		Actions: []reconcile.Action{reconcile.Delete{Object: o, Propagation: string(propagation(s)), IfVersion: true}},
		Why:     "all of its owners are gone",
	}
}

// unblock lets the owners of o go before it.
func unblock(o kinds.Object) reconcile.Plan {
	c := o.DeepCopyObject().(kinds.Object)
	refs, no := slices.Clone(c.GetOwnerReferences()), false
	for i := range refs {
		refs[i].BlockOwnerDeletion = &no
	}
	c.SetOwnerReferences(refs)
	return reconcile.Plan{Actions: []reconcile.Action{reconcile.Update{Object: c}}, Why: "its dependents wait to be deleted as it does: perhaps for each other"}
}

// propagation: as its own finalizers say; one that an owner waits for waits for its own dependents in turn.
func propagation(s State) metav1.DeletionPropagation {
	switch {
	case holds(s.Object, metav1.FinalizerOrphanDependents):
		return metav1.DeletePropagationOrphan
	case holds(s.Object, metav1.FinalizerDeleteDependents), len(s.Waiting) > 0 && len(s.Dependents) > 0:
		return metav1.DeletePropagationForeground
	}
	return metav1.DeletePropagationBackground
}

// orphan takes the references away, then the finalizer.
func orphan(s State) reconcile.Plan {
	var batch reconcile.Batch
	for _, d := range s.Dependents {
		c := d.DeepCopyObject().(kinds.Object)
		c.SetOwnerReferences(slices.DeleteFunc(c.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == s.Object.GetUID() }))
		batch.Actions = append(batch.Actions, reconcile.Update{Object: c})
	}
	if len(batch.Actions) > 0 {
		return reconcile.Plan{Actions: []reconcile.Action{batch}, Why: "its dependents are to stay"}
	}
	return without(s.Object, metav1.FinalizerOrphanDependents, "no dependent names it any more")
}

// foreground waits for the dependents that block; they are deleted each by its own key.
func foreground(s State) reconcile.Plan {
	for _, d := range s.Dependents {
		for _, r := range d.GetOwnerReferences() {
			if r.UID == s.Object.GetUID() && blocks(r) {
				return reconcile.Plan{Why: "dependents that block its deletion are left"}
			}
		}
	}
	return without(s.Object, metav1.FinalizerDeleteDependents, "no dependent blocks its deletion any more")
}

func without(o kinds.Object, finalizer, why string) reconcile.Plan {
	c := o.DeepCopyObject().(kinds.Object)
	c.SetFinalizers(slices.DeleteFunc(c.GetFinalizers(), func(f string) bool { return f == finalizer }))
	return reconcile.Plan{Actions: []reconcile.Action{reconcile.Update{Object: c}}, Why: why}
}
