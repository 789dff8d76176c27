// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"context"
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Definition is a kind that is not in All but was defined while the cluster runs, by a CustomResourceDefinition. Each of
// its versions is a Type of its own, with its own validation, columns and subresources; all of them share one folder in
// the store, and there is no hub: an object is kept in the version in which it was last written, and its Custom.Type says
// which that is.
type Definition struct {
	Versions []*Type // all of them, that in which objects are written first
	Served   []*Type // those that requests may name
	// Convert makes objects of this kind ones of version to, in order; what is of that version already is returned as it
	// is. It may ask a webhook. Metadata but labels and annotations is what it was.
	Convert func(ctx context.Context, objs []*Custom, to *Type) ([]*Custom, error)
	// Origin is what the package that made the definition compares the next one with.
	Origin any
}

// Version is the Type of an apiVersion ("stable.example.com/v1"), or nil.
func (d *Definition) Version(apiVersion string) *Type {
	for _, t := range d.Versions {
		if t.GroupVersion().String() == apiVersion {
			return t
		}
	}
	return nil
}

// CustomType is what the Type of one version of a Definition has beside what every Type has.
type CustomType struct {
	*Definition
	ListKind string
	Warning  string // told with every answer; "": the version is not deprecated
	// Prune drops what the schema does not know and says where it was: spec.foo, spec.list[2].bar. It fails where the
	// metadata of the object, or of one embedded in it, is none.
	Prune func(*Custom) (unknown []string, err error)
	// Schema describes the objects, apiVersion, kind and metadata included; what refers to a type of the API refers to
	// #/definitions/NAME. old: in version 2 of OpenAPI.
	Schema func(old bool) *spec.Schema
	// Fields knows how lists and maps merge, for server-side apply.
	Fields func() (managedfields.TypeConverter, error)
}

// Custom is an object of a Definition.
type Custom struct {
	unstructured.Unstructured
	Type *Type `json:"-"`
}

// NewCustom is an empty object of a version.
func NewCustom(t *Type) *Custom {
	c := &Custom{Type: t, Unstructured: unstructured.Unstructured{Object: map[string]any{}}}
	c.SetGroupVersionKind(t.GroupVersionKind)
	return c
}

// DeepCopyObject copies all of it.
func (c *Custom) DeepCopyObject() runtime.Object { return c.Copy() }

// Copy copies all of it.
func (c *Custom) Copy() *Custom {
	return &Custom{Unstructured: *c.Unstructured.DeepCopy(), Type: c.Type}
}

// Shallow copies it so far that apiVersion, kind and the fields of metadata can be set.
func (c *Custom) Shallow() *Custom {
	top := maps.Clone(c.Object)
	if m, ok := top["metadata"].(map[string]any); ok {
		top["metadata"] = maps.Clone(m)
	}
	return &Custom{Unstructured: unstructured.Unstructured{Object: top}, Type: c.Type}
}
