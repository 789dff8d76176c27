// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/knarr/knarr/kinds"
)

// What a Go type may say about itself. k8s.io/api's types have the first two; the few with a wire form of their own the rest.
type (
	named      interface{ OpenAPIModelName() string }
	documented interface{ SwaggerDoc() map[string]string }
	shaped     interface {
		OpenAPISchemaType() []string
		OpenAPISchemaFormat() string
	}
)

// definitions turn Go types into named schemas, each once.
type definitions struct {
	out     spec.Definitions
	markers markers
	defined []*kinds.Type // at runtime
}

func newDefinitions() *definitions {
	return &definitions{out: spec.Definitions{}, markers: readMarkers()}
}

// ref points to the schema of a struct type, which it adds when it is new.
func (d *definitions) ref(t reflect.Type) spec.Schema {
	name := modelName(t)
	if _, ok := d.out[name]; !ok {
		d.out[name] = spec.Schema{} // types refer to themselves
		d.out[name] = d.definition(t)
	}
	return spec.Schema{SchemaProps: spec.SchemaProps{Ref: spec.MustCreateRef("#/definitions/" + name)}}
}

// kind points to the schema of a kind in the scheme.
func (d *definitions) kind(gvk schema.GroupVersionKind) spec.Schema {
	if ref, ok := d.custom(gvk); ok {
		return ref
	}
	o, err := kinds.Scheme().New(gvk)
	if err != nil {
		panic("openapi: " + err.Error()) // every kind served is in the scheme: a test goes through them
	}
	return d.ref(reflect.TypeOf(o).Elem())
}

// named is the schema a reference points to.
func (d *definitions) named(ref spec.Schema) spec.Schema {
	return d.out[strings.TrimPrefix(ref.Ref.String(), "#/definitions/")]
}

// raw points to a schema with a name and no Go type.
func (d *definitions) raw(name, description string) spec.Schema {
	d.out[name] = spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}, Description: description}}
	return spec.Schema{SchemaProps: spec.SchemaProps{Ref: spec.MustCreateRef("#/definitions/" + name)}}
}

// modelName is io.k8s.api.core.v1.Pod.
func modelName(t reflect.Type) string {
	if n, ok := reflect.Zero(t).Interface().(named); ok {
		return n.OpenAPIModelName()
	}
	host, rest, _ := strings.Cut(t.PkgPath(), "/")
	parts := strings.Split(host, ".")
	slices.Reverse(parts)
	return strings.Join(parts, ".") + "." + strings.ReplaceAll(rest, "/", ".") + "." + t.Name()
}

func (d *definitions) definition(t reflect.Type) spec.Schema {
	docs := docsOf(t)
	s := spec.Schema{SchemaProps: spec.SchemaProps{Description: docs[""]}}
	if v, ok := reflect.Zero(t).Interface().(shaped); ok {
		s.Type, s.Format = v.OpenAPISchemaType(), v.OpenAPISchemaFormat()
		return s
	}
	s.Type = []string{"object"}
	s.Properties = map[string]spec.Schema{}
	d.fields(&s, t)
	if len(s.Properties) == 0 {
		s.Properties = nil
	}
	slices.Sort(s.Required)
	if d.markers.of(t, "").structType == "atomic" {
		s.AddExtension("x-kubernetes-map-type", "atomic")
	}
	if gvks := kindsOf(t); len(gvks) > 0 {
		s.AddExtension("x-kubernetes-group-version-kind", gvks)
	}
	return s
}

func docsOf(t reflect.Type) map[string]string {
	if v, ok := reflect.Zero(t).Interface().(documented); ok {
		return v.SwaggerDoc()
	}
	return nil
}

// fields adds the properties of a struct, those of embedded structs as its own.
func (d *definitions) fields(s *spec.Schema, t reflect.Type) {
	docs := docsOf(t)
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || (!f.IsExported() && !f.Anonymous):
			continue
		case name == "" && (f.Anonymous || strings.Contains(options, "inline")):
			d.fields(s, direct(f.Type))
			continue
		case name == "":
			name = f.Name
		}
		m := d.markers.of(t, name)
		p := d.property(f.Type)
		p.Description = docs[name]
		m.extend(&p)
		for _, x := range [][2]string{{"patchStrategy", "x-kubernetes-patch-strategy"}, {"patchMergeKey", "x-kubernetes-patch-merge-key"}} {
			if v := f.Tag.Get(x[0]); v != "" {
				p.AddExtension(x[1], v)
			}
		}
		s.Properties[name] = p
		if !m.optional && !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
			s.Required = append(s.Required, name)
		}
	}
}

func direct(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// property is the schema of a value of type t where it stands.
func (d *definitions) property(t reflect.Type) spec.Schema {
	t = direct(t)
	s := spec.Schema{}
	switch t.Kind() {
	case reflect.Struct:
		return d.ref(t)
	case reflect.String:
		s.Typed("string", "")
		for _, v := range d.markers.of(t, "").enum {
			s.Enum = append(s.Enum, v)
		}
	case reflect.Bool:
		s.Typed("boolean", "")
	case reflect.Int64, reflect.Uint64:
		s.Typed("integer", "int64")
	case reflect.Int, reflect.Int32, reflect.Int16, reflect.Int8, reflect.Uint, reflect.Uint32, reflect.Uint16, reflect.Uint8:
		s.Typed("integer", "int32")
	case reflect.Float64, reflect.Float32:
		s.Typed("number", "double")
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			s.Typed("string", "byte")
			break
		}
		items := d.property(t.Elem())
		s.Typed("array", "")
		s.Items = &spec.SchemaOrArray{Schema: &items}
	case reflect.Map:
		items := d.property(t.Elem())
		s.Typed("object", "")
		s.AdditionalProperties = &spec.SchemaOrBool{Allows: true, Schema: &items}
	default: // an interface: any value
		s.Typed("object", "")
	}
	return s
}

// kindsOf are the group, version and kind of a type that is an API object, sorted.
func kindsOf(t reflect.Type) []any {
	o, ok := reflect.New(t).Interface().(runtime.Object)
	if !ok {
		return nil
	}
	gvks, _, err := kinds.Scheme().ObjectKinds(o)
	if err != nil {
		return nil
	}
	set := map[schema.GroupVersionKind]bool{}
	for _, gvk := range gvks {
		if gvk.Version != runtime.APIVersionInternal {
			set[gvk] = true
		}
	}
	var out []any
	for _, gvk := range slices.SortedFunc(maps.Keys(set), func(a, b schema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) }) {
		out = append(out, gvkExtension(gvk))
	}
	return out
}

func gvkExtension(gvk schema.GroupVersionKind) map[string]any {
	return map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}
}
