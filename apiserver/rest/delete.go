// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/apiserver/admission"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

func (c *Core) delete(ctx context.Context, r *Request) (Answer, error) {
	switch r.Propagation {
	case "", string(metav1.DeletePropagationBackground), string(metav1.DeletePropagationForeground), string(metav1.DeletePropagationOrphan):
	default:
		return Answer{}, apierrors.NewBadRequest("propagationPolicy: Unsupported value: \"" + r.Propagation + "\": supported values: \"Background\", \"Foreground\", \"Orphan\"")
	}
	if r.GracePeriod != nil && *r.GracePeriod < 0 {
		// Negative periods meant "the default" once; upstream reads them as the shortest.
		one := int64(1)
		r.GracePeriod = &one
	}
	return c.revise(ctx, r, func(old *cache.Entry) (decision, error) {
		if err := preconditions(r, old.Object, r.UID, r.ResourceVersion); err != nil {
			return decision{}, err
		}
		adm := c.admissionRequest(r, admission.Delete, nil, old.Object)
		if err := c.Steps.Mutate(ctx, adm); err != nil {
			return decision{}, err
		}
		if err := c.Steps.Validate(ctx, adm); err != nil {
			return decision{}, err
		}
		d := decision{next: c.dying(r, old.Object), demand: adm.Required(), also: adm.Alsos()}
		d.keep = d.next == old.Object
		return d, nil
	})
}

// dying is what an object becomes when a client asks for its end: nil (gone), itself (ending already), or a copy with a
// deletion timestamp that its owner, or those who hold finalizers, will finish.
//
//	             no finalizers            finalizers
//	no grace     gone                     marked, now
//	grace        marked, now + grace      marked, now + grace
//	marked       gone if grace is 0; a shorter grace replaces the longer
func (c *Core) dying(r *Request, old kinds.Object) kinds.Object {
	next := copyOf(old)
	if old.GetDeletionTimestamp() == nil {
		r.Type.BeforeDelete(next)
	}
	next.SetFinalizers(finalizers(next.GetFinalizers(), r.Propagation))
	held := len(next.GetFinalizers()) > 0
	if ns, ok := old.(*corev1.Namespace); ok {
		held = held || len(ns.Spec.Finalizers) > 0
	}
	if old.GetDeletionTimestamp() != nil {
		return c.dyingAlready(r, old, next, held)
	}
	grace := int64(0)
	if r.Type.Grace != nil {
		grace = r.Type.Grace(old, r.GracePeriod)
	}
	if grace == 0 && !held {
		return nil
	}
	c.mark(next, c.Now().Add(time.Duration(grace)*time.Second), grace)
	return next
}

func (c *Core) dyingAlready(r *Request, old, next kinds.Object, held bool) kinds.Object {
	had := old.GetDeletionGracePeriodSeconds()
	switch {
	case had == nil || *had == 0:
		if !held {
			return nil
		}
	case r.GracePeriod != nil && *r.GracePeriod < *had:
		if *r.GracePeriod == 0 && !held {
			return nil
		}
		asked := old.GetDeletionTimestamp().Add(-time.Duration(*had) * time.Second)
		stamp := metav1.NewTime(asked.Add(time.Duration(*r.GracePeriod) * time.Second))
		next.SetDeletionTimestamp(&stamp)
		next.SetDeletionGracePeriodSeconds(r.GracePeriod)
		return next
	}
	if slices.Equal(next.GetFinalizers(), old.GetFinalizers()) {
		return old
	}
	return next
}

func (c *Core) mark(o kinds.Object, when time.Time, grace int64) {
	stamp := metav1.NewTime(when).Rfc3339Copy()
	o.SetDeletionTimestamp(&stamp)
	o.SetDeletionGracePeriodSeconds(&grace)
	if o.GetGeneration() > 0 {
		o.SetGeneration(o.GetGeneration() + 1)
	}
	if ns, ok := o.(*corev1.Namespace); ok {
		ns.Status.Phase = corev1.NamespaceTerminating
	}
}

// finalizers puts the client's wish for the dependents into the two finalizers that the garbage collector serves.
func finalizers(have []string, propagation string) []string {
	want := map[string]string{
		string(metav1.DeletePropagationForeground): metav1.FinalizerDeleteDependents,
		string(metav1.DeletePropagationOrphan):     metav1.FinalizerOrphanDependents,
	}[propagation]
	if propagation == "" {
		return have
	}
	out := make([]string, 0, len(have)+1)
	for _, f := range have {
		if f != metav1.FinalizerDeleteDependents && f != metav1.FinalizerOrphanDependents {
			out = append(out, f)
		}
	}
	if want != "" {
		out = append(out, want)
	}
	return out
}

// DeleteCollection deletes what List would show, one by one, and returns what it deleted. r is the template of each
// deletion.
func (c *Core) DeleteCollection(ctx context.Context, r Request, o ListOptions) (*List, error) {
	o.ResourceVersion, o.ResourceVersionMatch = "", ""
	list, err := c.List(ctx, r.Type, r.Namespace, o)
	if err != nil {
		return nil, err
	}
	for _, e := range list.Entries {
		one := r
		one.Namespace, one.Name = e.Object.GetNamespace(), e.Object.GetName()
		one.UID = e.Object.GetUID()
		_, err := c.Do(ctx, one)
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return nil, err
		}
	}
	return list, nil
}
