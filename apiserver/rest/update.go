// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/knarr/knarr/apiserver/admission"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

func (c *Core) update(ctx context.Context, r *Request) (Answer, error) {
	if err := checkPlace(r, r.Object); err != nil {
		return Answer{}, err
	}
	if r.Object.GetName() == "" {
		return Answer{}, apierrors.NewBadRequest("name is required")
	}
	return c.revise(ctx, r, func(old *cache.Entry) (decision, error) {
		return c.replace(ctx, r, old, copyOf(r.Object))
	})
}

// replace decides what old becomes when a client wants obj in its place. obj is written to.
func (c *Core) replace(ctx context.Context, r *Request, old *cache.Entry, obj kinds.Object) (decision, error) {
	if err := preconditions(r, old.Object, obj.GetUID(), obj.GetResourceVersion()); err != nil {
		return decision{}, err
	}
	obj.GetObjectKind().SetGroupVersionKind(r.Type.GroupVersionKind)
	if r.Subresource == "status" {
		obj = withStatus(r.Type, old.Object, obj)
	} else if r.Type.HasStatus {
		r.Type.CopyStatus(obj, old.Object)
	}
	keepMeta(obj, old.Object)
	adm := c.admissionRequest(r, admission.Update, obj, old.Object)
	if err := c.Steps.Mutate(ctx, adm); err != nil {
		return decision{}, err
	}
	obj = adm.Object
	r.Type.Default(obj)
	if err := c.track(ctx, r, old.Object, obj); err != nil {
		return decision{}, err
	}
	var d decision
	if r.Subresource == "" {
		r.Type.BeforeUpdate(obj, old.Object)
		if !r.Type.NoGeneration && !r.Type.SpecEqual(obj, old.Object) {
			obj.SetGeneration(old.Object.GetGeneration() + 1)
		}
		var err error
		if d.wished, err = c.allocate(obj, old.Object); err != nil {
			return decision{}, err
		}
	}
	if list := c.updateFaults(r, obj, old.Object); len(list) > 0 {
		return decision{}, invalid(r, r.Name, list)
	}
	if err := c.Steps.Validate(ctx, adm); err != nil {
		return decision{}, err
	}
	d.next, d.demand, d.also = obj, adm.Required(), adm.Alsos()
	if finished(obj) {
		d.next = nil
	}
	return d, nil
}

// updateFaults are all faults of obj and of its difference from old.
func (c *Core) updateFaults(r *Request, obj, old kinds.Object) field.ErrorList {
	meta := field.NewPath("metadata")
	list := validation.ValidateObjectMetaAccessorUpdate(obj, old, meta)
	if r.Subresource == "status" {
		return append(list, r.Type.ValidateStatus(obj, old)...)
	}
	if r.Type.WholeUpdate {
		list = append(list, validation.ValidateObjectMetaAccessor(obj, !r.Type.Cluster, r.Type.ValidateName, meta)...)
	} else {
		list = append(list, c.faults(r, obj)...)
	}
	if obj.GetDeletionTimestamp() != nil {
		list = append(list, validation.ValidateNoNewFinalizers(obj.GetFinalizers(), old.GetFinalizers(), meta.Child("finalizers"))...)
	}
	return append(list, r.Type.ValidateUpdate(obj, old)...)
}

// preconditions compares what the client says the object is with what it is.
func preconditions(r *Request, old kinds.Object, uid types.UID, version string) error {
	if uid != "" && uid != old.GetUID() {
		return conflict(r, fmt.Sprintf("Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, old.GetUID()))
	}
	if version != "" && version != "0" && version != old.GetResourceVersion() {
		return conflict(r, modified)
	}
	return nil
}

// keepMeta takes from old the metadata that no client may change. The grace period may only be shortened by a delete.
func keepMeta(obj, old kinds.Object) {
	obj.SetName(old.GetName())
	obj.SetNamespace(old.GetNamespace())
	if obj.GetUID() == "" {
		obj.SetUID(old.GetUID())
	}
	obj.SetGenerateName(old.GetGenerateName())
	obj.SetSelfLink("")
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
	obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	obj.SetGeneration(old.GetGeneration())
	obj.SetResourceVersion(old.GetResourceVersion())
}

// withStatus is old with the status of obj, and with its labels and annotations, which clients send along. A custom object's
// metadata, and a definition's, is not the status writer's.
func withStatus(t *kinds.Type, old, obj kinds.Object) kinds.Object {
	out := copyOf(old)
	t.CopyStatus(out, obj)
	if t.Custom == nil && t != kinds.For[apiextensionsv1.CustomResourceDefinition]() {
		out.SetLabels(obj.GetLabels())
		out.SetAnnotations(obj.GetAnnotations())
	}
	return out
}

// finished: the object is being deleted and nothing holds it any more.
func finished(obj kinds.Object) bool {
	if obj.GetDeletionTimestamp() == nil || len(obj.GetFinalizers()) > 0 {
		return false
	}
	if ns, ok := obj.(*corev1.Namespace); ok && len(ns.Spec.Finalizers) > 0 {
		return false
	}
	grace := obj.GetDeletionGracePeriodSeconds()
	return grace == nil || *grace == 0
}
