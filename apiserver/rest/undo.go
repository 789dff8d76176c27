// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/client"
)

// undoManager is the field manager of what undo writes, unless the client names one.
const undoManager = "knarr-undo"

// Undone is what undo did.
type Undone struct {
	Answer
	Restored int64 // the revision whose content the object has again
}

// Undo gives an object the content it had at revision to, or (0) before its last change; one that is gone is made anew.
// It is an ordinary update or create, admitted and validated; may is asked before, with the verb that it will be.
// Status and bookkeeping are not restored; a new object has a new UID.
func (c *Core) Undo(ctx context.Context, r Request, to int64, may func(client.Verb) error) (Undone, error) {
	if r.FieldManager == "" {
		r.FieldManager = undoManager
	}
	if r.Warn == nil {
		r.Warn = func(string) {}
	}
	h, err := c.history(ctx, &r)
	if err != nil {
		return Undone{}, Status(err)
	}
	target, err := h.target(to)
	if err != nil {
		return Undone{}, Status(err)
	}
	obj, err := c.readable(ctx, &r, target)
	if err != nil {
		return Undone{}, Status(err)
	}
	obj = copyOf(obj)
	obj.SetManagedFields(nil)
	last := h.Revisions[len(h.Revisions)-1]
	switch {
	case last.Verb == Deleted:
		r.Verb = client.Create
		c.revive(&r, obj)
	case last.Object != nil && last.Object.GetDeletionTimestamp() != nil:
		return Undone{}, Status(errs.New(errs.Conflict, "%s %s is being deleted; undo it when it is gone", r.Type.Singular, r.Name))
	default:
		r.Verb = client.Update
		obj.SetUID("")
		// What was undone must be what the history showed: a write in between is a conflict.
		obj.SetResourceVersion(strconv.FormatInt(last.Revision, 10))
	}
	if err := may(r.Verb); err != nil {
		return Undone{}, err
	}
	r.Object = obj
	a, err := c.Do(ctx, r)
	return Undone{a, target.Revision}, err
}

func (h History) target(to int64) (*Revision, error) {
	if to == 0 {
		return h.before()
	}
	x := h.At(to)
	switch {
	case x == nil && to < h.Oldest:
		return nil, errs.New(errs.Gone, "revision %d is forgotten; the oldest that is known is %d", to, h.Revisions[0].Revision)
	case x == nil:
		return nil, errs.New(errs.Invalid, "the object has no revision %d; its history lists those it has", to)
	case x.Verb == Deleted:
		return nil, errs.New(errs.Invalid, "at revision %d the object was deleted; to have it so, delete it", to)
	}
	return x, nil
}

// revive takes from an object what belonged to its former life.
func (c *Core) revive(r *Request, obj kinds.Object) {
	obj.SetResourceVersion("")
	obj.SetUID("")
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetFinalizers(slices.DeleteFunc(obj.GetFinalizers(), func(f string) bool {
		return f == metav1.FinalizerDeleteDependents || f == metav1.FinalizerOrphanDependents
	}))
	c.dropDeadOwners(r, obj)
	switch o := obj.(type) {
	case *corev1.Pod:
		o.Spec.NodeName = "" // the scheduler's to choose, now as then
	case *corev1.PersistentVolume:
		if ref := o.Spec.ClaimRef; ref != nil {
			ref.UID, ref.ResourceVersion = "", "" // any claim of that name may bind again
		}
	case *batchv1.Job:
		forgetJob(o)
	}
}

// dropDeadOwners: an owner that is gone would take the object along again.
func (c *Core) dropDeadOwners(r *Request, obj kinds.Object) {
	s := c.Cache.Snapshot()
	refs := slices.DeleteFunc(slices.Clone(obj.GetOwnerReferences()), func(o metav1.OwnerReference) bool {
		for _, t := range s.Types() {
			if t.Kind != o.Kind {
				continue
			}
			ns := obj.GetNamespace()
			if t.Cluster {
				ns = ""
			}
			if e, ok := s.Get(t, ns, o.Name); ok && e.Object.GetUID() == o.UID {
				return false
			}
		}
		r.Warn(fmt.Sprintf("its owner %s %s is gone; it is restored without", o.Kind, o.Name))
		return true
	})
	obj.SetOwnerReferences(refs)
}

// forgetJob removes the selector that was made from the former UID; a new one is made.
func forgetJob(j *batchv1.Job) {
	if j.Spec.ManualSelector != nil && *j.Spec.ManualSelector {
		return
	}
	j.Spec.Selector = nil
	for _, labels := range []map[string]string{j.Labels, j.Spec.Template.Labels} {
		for _, k := range []string{"controller-uid", batchv1.ControllerUidLabel} {
			delete(labels, k)
		}
	}
}
