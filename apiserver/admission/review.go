// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"encoding/json"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/apiserver/expr"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// asVersion is an object as JSON of version v; an object of another kind (Binding, Eviction) as it is. Nil stays nil.
func asVersion(r *Request, o kinds.Object, v *kinds.Version) ([]byte, error) {
	if o == nil {
		return nil, nil
	}
	out := o
	if kinds.Of(o) == r.Type {
		out = v.FromHub(o.DeepCopyObject().(kinds.Object))
		out.GetObjectKind().SetGroupVersionKind(v.GroupVersionKind)
	} else if gvk := kindOf(r, o, v); o.GetObjectKind().GroupVersionKind() != gvk {
		out = o.DeepCopyObject().(kinds.Object)
		out.GetObjectKind().SetGroupVersionKind(gvk)
	}
	return json.Marshal(out)
}

// subject is what a request is about as JSON of version v: its object, or how a connection is made.
func subject(r *Request, v *kinds.Version) ([]byte, error) {
	if r.Connection != nil {
		return json.Marshal(r.Connection)
	}
	return asVersion(r, r.Object, v)
}

// kindOf is what an object calls itself in version v.
func kindOf(r *Request, o kinds.Object, v *kinds.Version) schema.GroupVersionKind {
	if o == nil || kinds.Of(o) == r.Type {
		return v.GroupVersionKind
	}
	known, _, err := kinds.Scheme().ObjectKinds(o)
	if err != nil || len(known) == 0 {
		return v.GroupVersionKind
	}
	return known[0]
}

// fromVersion reads what a webhook or policy made of the request's object. What identifies an object stays.
func fromVersion(r *Request, data []byte, v *kinds.Version) (kinds.Object, error) {
	var out kinds.Object
	if kinds.Of(r.Object) == r.Type {
		obj := v.New()
		if err := json.Unmarshal(data, obj); err != nil {
			return nil, err
		}
		out = v.ToHub(obj)
		out.GetObjectKind().SetGroupVersionKind(r.Type.GroupVersionKind)
		if c, ok := out.(*kinds.Custom); ok {
			if _, err := c.Type.Custom.Prune(c); err != nil {
				return nil, err
			}
		}
		r.Type.Default(out)
	} else {
		obj, err := kinds.Scheme().New(kindOf(r, r.Object, v))
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(data, obj); err != nil {
			return nil, err
		}
		out = obj.(kinds.Object)
	}
	was := r.Object
	out.SetNamespace(was.GetNamespace())
	out.SetName(was.GetName())
	out.SetUID(was.GetUID())
	out.SetCreationTimestamp(was.GetCreationTimestamp())
	out.SetDeletionTimestamp(was.GetDeletionTimestamp())
	out.SetDeletionGracePeriodSeconds(was.GetDeletionGracePeriodSeconds())
	out.SetGeneration(was.GetGeneration())
	out.SetResourceVersion(was.GetResourceVersion())
	return out, nil
}

// review is r as admission webhooks and policies see it, in version v; the objects are left out.
func review(r *Request, v *kinds.Version) *admissionv1.AdmissionRequest {
	own, dry := r.version(), r.DryRun
	of := r.Object
	if of == nil {
		of = r.Old
	}
	kind, requestKind := metav1.GroupVersionKind(kindOf(r, of, v)), metav1.GroupVersionKind(kindOf(r, of, own))
	if r.Connection != nil {
		kind = metav1.GroupVersionKind(r.Connection.GetObjectKind().GroupVersionKind())
		requestKind = kind
	}
	resource := func(gv schema.GroupVersion) metav1.GroupVersionResource {
		return metav1.GroupVersionResource{Group: gv.Group, Version: gv.Version, Resource: r.Type.Plural}
	}
	requestResource := resource(own.GroupVersion())
	return &admissionv1.AdmissionRequest{
		UID:  types.UID(uuid.NewUUID()),
		Kind: kind, Resource: resource(v.GroupVersion()), SubResource: r.Subresource,
		RequestKind: &requestKind, RequestResource: &requestResource, RequestSubResource: r.Subresource,
		Name: r.Name, Namespace: r.Namespace, Operation: operation(r), UserInfo: userInfo(r.User), DryRun: &dry,
		Options: optionsOf(r),
	}
}

func userInfo(u auth.User) authenticationv1.UserInfo {
	out := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for k, v := range u.Extra {
		if out.Extra == nil {
			out.Extra = map[string]authenticationv1.ExtraValue{}
		}
		out.Extra[k] = v
	}
	return out
}

// optionsOf are the request's options as the kind they are in upstream.
func optionsOf(r *Request) runtime.RawExtension {
	meta := func(kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: kind} }
	var dry []string
	if r.DryRun {
		dry = []string{metav1.DryRunAll}
	}
	var o any
	switch r.Verb {
	case Connect:
		return runtime.RawExtension{}
	case Create:
		o = &metav1.CreateOptions{TypeMeta: meta("CreateOptions"), DryRun: dry, FieldManager: r.Options.FieldManager, FieldValidation: r.Options.FieldValidation}
	case Delete:
		d := &metav1.DeleteOptions{TypeMeta: meta("DeleteOptions"), DryRun: dry, GracePeriodSeconds: r.Options.GracePeriod}
		if r.Options.Propagation != "" {
			p := metav1.DeletionPropagation(r.Options.Propagation)
			d.PropagationPolicy = &p
		}
		o = d
	default:
		o = &metav1.UpdateOptions{TypeMeta: meta("UpdateOptions"), DryRun: dry, FieldManager: r.Options.FieldManager, FieldValidation: r.Options.FieldValidation}
	}
	raw, err := json.Marshal(o)
	if err != nil {
		return runtime.RawExtension{} // plain structs always encode
	}
	return runtime.RawExtension{Raw: raw}
}

// input is r as expressions see it, in version v.
func input(s *cache.Snapshot, z *auth.Authorizer, r *Request, v *kinds.Version) (*expr.Input, error) {
	in := &expr.Input{User: r.User, Authorizer: z, Resource: auth.Attributes{
		Group: r.Type.Group, Version: v.Version, Resource: r.Type.Plural, Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name,
	}}
	object, err := subject(r, v)
	if err != nil {
		return nil, err
	}
	if in.Object, err = asMap(object); err != nil {
		return nil, err
	}
	if in.Old, err = objectMap(r, r.Old, v); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(review(r, v))
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	if err := utiljson.Unmarshal(raw, &in.Request); err != nil {
		return nil, err
	}
	if ns, ok := cache.Get[corev1.Namespace](s, "", r.Namespace); ok && !r.Type.Cluster {
		if raw, err = json.Marshal(ns); err != nil {
			return nil, err
		}
		if err := utiljson.Unmarshal(raw, &in.Namespace); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// objectMap is an object as expressions see it, in version v.
func objectMap(r *Request, o kinds.Object, v *kinds.Version) (map[string]any, error) {
	raw, err := asVersion(r, o, v)
	if err != nil {
		return nil, err
	}
	return asMap(raw)
}

func asMap(raw []byte) (map[string]any, error) {
	if raw == nil {
		return nil, nil
	}
	var out map[string]any
	err := utiljson.Unmarshal(raw, &out)
	return out, err
}
