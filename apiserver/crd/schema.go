// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"slices"
	"sync"

	openapiv2 "k8s.io/apiextensions-apiserver/pkg/controller/openapi/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/knarr/knarr/kinds"
)

// objectMeta is the name of the schema that all metadata refers to.
const objectMeta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

func (v *crdVersion) publish(t *kinds.Type) {
	t.Custom.Schema = func(old bool) *spec.Schema { return v.published(t, old) }
	t.Custom.Fields = sync.OnceValues(func() (managedfields.TypeConverter, error) {
		s := v.schema()
		whole := s.structural == nil || v.keepAll
		return managedfields.NewTypeConverter(map[string]*spec.Schema{"object": v.published(t, false), objectMeta: metadata()}, whole)
	})
}

// published is the schema for readers, version 2 of OpenAPI (old) or 3.
func (v *crdVersion) published(t *kinds.Type, old bool) *spec.Schema {
	s := v.schema().structural
	out := &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}}}
	switch {
	case s == nil, old && (s.XPreserveUnknownFields || v.keepAll):
		// Without more: kubectl would take the fields it is told of for all there are.
	default:
		if old {
			s = openapiv2.ToStructuralOpenAPIV2(s)
		}
		out = s.ToKubeOpenAPI()
		meta(out, old)
		embedded(out, old)
	}
	out.AddExtension("x-kubernetes-group-version-kind", []any{map[string]any{"group": t.Group, "version": t.Version, "kind": t.Kind}})
	if list := v.spec.SelectableFields; len(list) > 0 {
		var fields []any
		for _, f := range list {
			fields = append(fields, map[string]any{"fieldPath": f.JSONPath[1:]})
		}
		out.AddExtension("x-kubernetes-selectable-fields", fields)
	}
	return out
}

// meta adds what every object has. In version 3 of OpenAPI nothing may stand beside a reference, so the description of metadata
// is around it.
func meta(s *spec.Schema, old bool) {
	docs := metav1.TypeMeta{}.SwaggerDoc()
	s.SetProperty("apiVersion", *spec.StringProperty().WithDescription(docs["apiVersion"]))
	s.SetProperty("kind", *spec.StringProperty().WithDescription(docs["kind"]))
	about := metav1.PartialObjectMetadata{}.SwaggerDoc()["metadata"]
	ref := spec.RefSchema("#/definitions/" + objectMeta)
	if !old {
		ref = &spec.Schema{SchemaProps: spec.SchemaProps{AllOf: []spec.Schema{*ref}}}
	}
	s.SetProperty("metadata", *ref.WithDescription(about))
}

// embedded does so for the objects inside.
func embedded(s *spec.Schema, old bool) {
	if s == nil {
		return
	}
	for k, p := range s.Properties {
		embedded(&p, old)
		s.Properties[k] = p
	}
	if s.Items != nil {
		embedded(s.Items.Schema, old)
	}
	if s.AdditionalProperties != nil {
		embedded(s.AdditionalProperties.Schema, old)
	}
	keeps, _ := s.Extensions.GetBool("x-kubernetes-preserve-unknown-fields")
	if is, _ := s.Extensions.GetBool("x-kubernetes-embedded-resource"); !is || keeps && old {
		return
	}
	meta(s, old)
	for _, name := range []string{"kind", "apiVersion"} {
		if !slices.Contains(s.Required, name) {
			s.Required = append(s.Required, name)
		}
	}
}

// metadata says how the fields of metadata merge.
func metadata() *spec.Schema {
	str := spec.StringProperty
	object := func(props map[string]spec.Schema) *spec.Schema {
		return &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}, Properties: props}}
	}
	owner := object(map[string]spec.Schema{
		"apiVersion": *str(), "kind": *str(), "name": *str(), "uid": *str(),
		"blockOwnerDeletion": *spec.BooleanProperty(), "controller": *spec.BooleanProperty(),
	})
	owner.AddExtension("x-kubernetes-map-type", "atomic")
	owners := spec.ArrayProperty(owner)
	owners.AddExtension("x-kubernetes-list-type", "map")
	owners.AddExtension("x-kubernetes-list-map-keys", []any{"uid"})
	finalizers := spec.ArrayProperty(str())
	finalizers.AddExtension("x-kubernetes-list-type", "set")
	managed := spec.ArrayProperty(object(map[string]spec.Schema{
		"apiVersion": *str(), "fieldsType": *str(), "manager": *str(), "operation": *str(), "subresource": *str(), "time": *str(),
		"fieldsV1": *object(nil),
	}))
	managed.AddExtension("x-kubernetes-list-type", "atomic")
	return object(map[string]spec.Schema{
		"name": *str(), "generateName": *str(), "namespace": *str(), "selfLink": *str(), "uid": *str(), "resourceVersion": *str(),
		"generation": *spec.Int64Property(), "creationTimestamp": *str(), "deletionTimestamp": *str(),
		"deletionGracePeriodSeconds": *spec.Int64Property(),
		"labels":                     *spec.MapProperty(str()), "annotations": *spec.MapProperty(str()),
		"ownerReferences": *owners, "finalizers": *finalizers, "managedFields": *managed,
	})
}
