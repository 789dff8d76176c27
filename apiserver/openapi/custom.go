// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/knarr/knarr/kinds"
)

// With is d with other kinds defined at runtime and other servers; documents that are the same in both are kept.
func (d *Docs) With(custom []*kinds.Type, foreign []Foreign) *Docs {
	n := &Docs{program: d.program, types: slices.Concat(d.program, custom), foreign: foreign, built: map[string]*document{}}
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.Equal(d.types, n.types) && slices.EqualFunc(d.foreign, n.foreign, Foreign.same) {
		n.built = maps.Clone(d.built)
		return n
	}
	for _, gv := range n.groupVersions() {
		if !slices.Equal(d.of(gv), n.of(gv)) {
			continue
		}
		for _, name := range []string{"v3 " + path(gv), "v3 protobuf " + path(gv)} {
			if doc := d.built[name]; doc != nil {
				n.built[name] = doc
			}
		}
	}
	return n
}

// of are the types served in a group and version.
func (d *Docs) of(gv schema.GroupVersion) []*kinds.Type {
	var out []*kinds.Type
	for _, t := range d.types {
		for _, v := range t.Served {
			if v.GroupVersion() == gv {
				out = append(out, t)
			}
		}
	}
	return out
}

// customName is com.example.stable.v1.CronTab.
func customName(gvk schema.GroupVersionKind) string {
	parts := strings.Split(gvk.Group, ".")
	slices.Reverse(parts)
	return strings.Join(parts, ".") + "." + gvk.Version + "." + gvk.Kind
}

// custom points to the schema of a kind defined at runtime, or of its list; ok is false for what is neither.
func (d *definitions) custom(gvk schema.GroupVersionKind) (ref spec.Schema, ok bool) {
	for _, t := range d.defined {
		if t.GroupVersion() != gvk.GroupVersion() || t.Kind != gvk.Kind && t.Custom.ListKind != gvk.Kind {
			continue
		}
		name := customName(gvk)
		to := spec.Schema{SchemaProps: spec.SchemaProps{Ref: spec.MustCreateRef("#/definitions/" + name)}}
		if _, done := d.out[name]; done {
			return to, true
		}
		if t.Kind == gvk.Kind {
			d.out[name] = *t.Custom.Schema(true)
			d.ref(reflect.TypeFor[metav1.ObjectMeta]()) // its metadata refers to it
			return to, true
		}
		d.out[name] = spec.Schema{}
		item, _ := d.custom(t.GroupVersionKind)
		d.out[name] = d.listOf(t, item)
		return to, true
	}
	return spec.Schema{}, false
}

func (d *definitions) listOf(t *kinds.Type, item spec.Schema) spec.Schema {
	docs := metav1.TypeMeta{}.SwaggerDoc()
	s := spec.Schema{}
	s.Typed("object", "").WithDescription(t.Custom.ListKind + " is a list of " + t.Kind).WithRequired("items")
	s.SetProperty("apiVersion", *spec.StringProperty().WithDescription(docs["apiVersion"]))
	s.SetProperty("kind", *spec.StringProperty().WithDescription(docs["kind"]))
	meta := d.ref(reflect.TypeFor[metav1.ListMeta]())
	s.SetProperty("metadata", *meta.WithDescription("Standard list metadata."))
	s.SetProperty("items", *spec.ArrayProperty(&item).WithDescription("List of " + t.Plural + "."))
	s.AddExtension("x-kubernetes-group-version-kind", []any{gvkExtension(t.GroupVersion().WithKind(t.Custom.ListKind))})
	return s
}

// whole replaces schemas that version 2 could not say all of by what version 3 can.
func whole(types []*kinds.Type, schemas map[string]*spec.Schema) error {
	for _, t := range types {
		if t.Custom == nil {
			continue
		}
		b, err := json.Marshal(t.Custom.Schema(false))
		if err != nil {
			return fmt.Errorf("schema of %s: %w", t.GroupVersionKind, err)
		}
		s := &spec.Schema{}
		if err := json.Unmarshal([]byte(strings.ReplaceAll(string(b), `"#/definitions/`, `"#/components/schemas/`)), s); err != nil {
			return fmt.Errorf("schema of %s: %w", t.GroupVersionKind, err)
		}
		schemas[customName(t.GroupVersionKind)] = s
	}
	return nil
}
