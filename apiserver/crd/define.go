// SPDX-License-Identifier: Apache-2.0

// Package crd makes kinds of CustomResourceDefinitions: each version of an established definition becomes a kinds.Type
// whose objects are *kinds.Custom, so that everything that works with types (storage, cache, watch, tables, discovery,
// documents, controllers) works with them as with the kinds of the program.
//
// What a definition means is a pure function of the stored object, so every server and every component that follows the
// store sees a kind begin, change and end at the same revision (state/cache, Definer). Schemas are read when a definition is;
// what costs more, CEL programs above all, is compiled when an object is first judged by it.
//
// It also has the controller that gives a definition its names and conditions and, at its end, deletes its objects. It
// does not store or serve anything itself.
//
//	define.go      definitions to types
//	version.go     one version: prune, default, restore
//	validate.go    one version: schema, lists, CEL, scale
//	columns.go     printer columns, selectable fields, replica counts, all by JSON path
//	schema.go      the published schema, and how fields merge
//	convert.go     from version to version
//	controller.go  names, conditions, clean-up
package crd

import (
	"cmp"
	"context"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// Webhook converts objects by asking the definition's webhook; desired is an apiVersion. The answer has as many objects, in
// the same order.
type Webhook func(ctx context.Context, crd *apiextensionsv1.CustomResourceDefinition, objs []map[string]any, desired string) ([]map[string]any, error)

// Definer is for cache.FromStore. A nil hook refuses conversions by webhook.
func Definer(hook Webhook) *cache.Definer {
	return &cache.Definer{Type: kinds.For[apiextensionsv1.CustomResourceDefinition](), Define: func(o kinds.Object, have *kinds.Definition) *kinds.Definition {
		crd, ok := o.(*apiextensionsv1.CustomResourceDefinition)
		if !ok {
			return nil
		}
		return Define(crd, have, hook)
	}}
}

// origin is what a definition was made of: as long as it is the same, so is the definition.
type origin struct {
	uid      string
	spec     apiextensionsv1.CustomResourceDefinitionSpec
	accepted apiextensionsv1.CustomResourceDefinitionNames
}

func (o *origin) same(p *origin) bool {
	return o.uid == p.uid && equality.Semantic.DeepEqual(o.spec, p.spec) && equality.Semantic.DeepEqual(o.accepted, p.accepted)
}

// Define is what a definition defines; nil before it is established. crd is shared: it is only read, and kept.
func Define(crd *apiextensionsv1.CustomResourceDefinition, have *kinds.Definition, hook Webhook) *kinds.Definition {
	if !kinds.Established(crd) || crd.Status.AcceptedNames.Plural == "" {
		return nil
	}
	from := &origin{uid: string(crd.UID), spec: crd.Spec, accepted: crd.Status.AcceptedNames}
	if have != nil {
		if before, ok := have.Origin.(*origin); ok && before.same(from) {
			return have
		}
	}
	d := &kinds.Definition{Origin: from}
	d.Convert = (&converter{crd: crd, hook: hook}).convert
	for i := range crd.Spec.Versions {
		v := &crd.Spec.Versions[i]
		t := typeOf(crd, v, d)
		if v.Storage {
			d.Versions = slices.Insert(d.Versions, 0, t)
		} else {
			d.Versions = append(d.Versions, t)
		}
		if v.Served {
			d.Served = append(d.Served, t)
		}
	}
	if len(d.Versions) == 0 {
		return nil
	}
	return d
}

func typeOf(crd *apiextensionsv1.CustomResourceDefinition, spec *apiextensionsv1.CustomResourceDefinitionVersion, d *kinds.Definition) *kinds.Type {
	names := crd.Status.AcceptedNames
	gvk := schema.GroupVersionKind{Group: crd.Spec.Group, Version: spec.Name, Kind: names.Kind}
	v := newVersion(crd, spec)
	t := &kinds.Type{
		GroupVersionKind: gvk, Plural: names.Plural, Singular: cmp.Or(names.Singular, strings.ToLower(names.Kind)),
		Short: names.ShortNames, Categories: names.Categories,
		Cluster:      crd.Spec.Scope == apiextensionsv1.ClusterScoped,
		HasStatus:    spec.Subresources != nil && spec.Subresources.Status != nil,
		WholeUpdate:  true,
		ValidateName: validation.NameIsDNSSubdomain,
		BeforeUpdate: func(_, _ kinds.Object) {},
		BeforeDelete: func(kinds.Object) {},
		Columns:      columns(spec.AdditionalPrinterColumns),
		Scale:        scaleOf(spec.Subresources),
	}
	t.Place(crd.Spec.Group + "/" + names.Plural)
	t.New = func() kinds.Object { return kinds.NewCustom(t) }
	t.NewList = func() runtime.Object { return nil } // lists are made of their items' bytes
	t.Served = []kinds.Version{kinds.HubVersion(gvk, t.New)}
	t.Default = func(o kinds.Object) { v.fill(custom(o)) }
	t.Restore = func(o kinds.Object) { v.restore(custom(o)) }
	t.Validate = func(o kinds.Object) field.ErrorList { return v.validate(custom(o)) }
	t.ValidateUpdate = func(new, old kinds.Object) field.ErrorList { return v.validateUpdate(custom(new), custom(old)) }
	t.ValidateStatus = func(new, old kinds.Object) field.ErrorList { return v.validateStatus(custom(new), custom(old)) }
	t.BeforeCreate = func(o kinds.Object) {
		if t.HasStatus {
			delete(custom(o).Object, "status")
		}
	}
	t.CopyStatus = copyStatus
	t.SpecEqual = func(a, b kinds.Object) bool { return sameSpec(custom(a).Object, custom(b).Object, t.HasStatus) }
	t.Fields = selectable(spec.SelectableFields)
	t.Custom = &kinds.CustomType{
		Definition: d, ListKind: cmp.Or(names.ListKind, names.Kind+"List"), Warning: deprecation(crd, spec),
		Prune: v.prune,
	}
	v.publish(t)
	return t
}

// custom is the one place where an object's dynamic type is trusted.
func custom(o kinds.Object) *kinds.Custom { return o.(*kinds.Custom) }

func copyStatus(dst, src kinds.Object) {
	status, ok := custom(src).Object["status"]
	if !ok {
		delete(custom(dst).Object, "status")
		return
	}
	custom(dst).Object["status"] = runtime.DeepCopyJSONValue(status)
}

// sameSpec: nothing but metadata differs, and status where it has its own subresource.
func sameSpec(a, b map[string]any, hasStatus bool) bool {
	for _, m := range []map[string]any{a, b} {
		for k := range m {
			if k == "metadata" || k == "apiVersion" || k == "status" && hasStatus {
				continue
			}
			if !equality.Semantic.DeepEqual(a[k], b[k]) {
				return false
			}
		}
	}
	return true
}

func deprecation(crd *apiextensionsv1.CustomResourceDefinition, v *apiextensionsv1.CustomResourceDefinitionVersion) string {
	switch {
	case !v.Deprecated:
		return ""
	case v.DeprecationWarning != nil:
		return *v.DeprecationWarning
	}
	text := crd.Spec.Group + "/" + v.Name + " " + crd.Spec.Names.Kind + " is deprecated"
	if newer := newest(crd); newer != "" && newer != v.Name {
		text += "; use " + crd.Spec.Group + "/" + newer + " " + crd.Spec.Names.Kind
	}
	return text
}

func objectFields(o kinds.Object) fields.Set {
	return fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()}
}
