// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/kinds"
)

// ownerReferencesPermission: who changes an object's owners makes it go with them, so he must be allowed to delete it; who
// lets it block an owner's deletion must be allowed to set the owner's finalizers.
func ownerReferencesPermission(z *auth.Authorizer) Step {
	return Step{Name: "OwnerReferencesPermissionEnforcement", Validate: func(_ context.Context, r *Request) error {
		if r.Verb == Delete || r.Subresource == "status" || kinds.Of(r.Object) != r.Type || r.User.In(auth.Masters) {
			return nil
		}
		var was []metav1.OwnerReference
		if r.Old != nil {
			was = r.Old.GetOwnerReferences()
		}
		now := r.Object.GetOwnerReferences()
		if equality.Semantic.DeepEqual(was, now) {
			return nil
		}
		res := r.Type.Resource()
		if r.Verb == Update {
			ok, reason := z.Authorize(auth.Attributes{
				User: r.User, Verb: "delete", Group: res.Group, Version: res.Version, Resource: res.Resource, Namespace: r.Namespace, Name: r.Name,
			})
			if !ok {
				return forbidden(r, "cannot set an ownerRef on a resource you can't delete: %s", reason)
			}
		}
		for _, ref := range newlyBlocking(now, was) {
			if err := mayFinalize(z, r, ref); err != nil {
				return err
			}
		}
		return nil
	}}
}

func newlyBlocking(now, was []metav1.OwnerReference) []metav1.OwnerReference {
	blocked := map[string]bool{}
	key := func(o metav1.OwnerReference) string {
		return o.APIVersion + "/" + o.Kind + "/" + o.Name + "/" + string(o.UID)
	}
	for _, o := range was {
		blocked[key(o)] = o.BlockOwnerDeletion != nil && *o.BlockOwnerDeletion
	}
	var out []metav1.OwnerReference
	for _, o := range now {
		if o.BlockOwnerDeletion != nil && *o.BlockOwnerDeletion && !blocked[key(o)] {
			out = append(out, o)
		}
	}
	return out
}

func mayFinalize(z *auth.Authorizer, r *Request, ref metav1.OwnerReference) error {
	const text = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: %s"
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return forbidden(r, "cannot set blockOwnerDeletion in this case because the APIVersion %q is malformed: %v", ref.APIVersion, err)
	}
	t, ok := z.State.Snapshot().TypeOfKind(schema.GroupKind{Group: gv.Group, Kind: ref.Kind})
	if !ok {
		return forbidden(r, "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion %s Kind %s", ref.APIVersion, ref.Kind)
	}
	a := auth.Attributes{
		User: r.User, Verb: "update", Group: t.Group, Version: t.Version, Resource: t.Plural, Subresource: "finalizers",
		Namespace: r.Namespace, Name: ref.Name,
	}
	if t.Cluster {
		a.Namespace = ""
	}
	if ok, reason := z.Authorize(a); !ok {
		return forbidden(r, text, reason)
	}
	return nil
}
