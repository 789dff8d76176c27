// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"cmp"
	"fmt"
	"reflect"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Type is a Kind with the Go type erased: what generic code (API server, cache, client) works with. Its functions panic
// when given an object of another kind: that is a fault of the caller, never of input. No function is nil but the ones
// that say so.
type Type struct {
	schema.GroupVersionKind
	Plural, Singular  string
	Short, Categories []string
	Cluster           bool
	Virtual           bool // never stored: only Create makes sense
	HasStatus         bool
	Served            []Version // every served version, the hub's own first

	New            func() Object         // an empty object with apiVersion and kind unset
	NewList        func() runtime.Object // an empty PodList
	Default        func(Object)
	Restore        func(Object)
	Validate       func(Object) field.ErrorList
	ValidateUpdate func(new, old Object) field.ErrorList
	ValidateStatus func(new, old Object) field.ErrorList
	ValidateName   func(name string, prefix bool) []string
	BeforeCreate   func(Object)
	BeforeUpdate   func(new, old Object)
	BeforeDelete   func(Object)
	// CopyStatus makes dst's status src's (shared, not copied): the two halves of the status subresource. It does nothing
	// for a kind without a status field.
	CopyStatus func(dst, src Object)
	// SpecEqual: everything but metadata and status is semantically equal; it decides about metadata.generation.
	SpecEqual    func(a, b Object) bool
	NoGeneration bool
	Fields       func(Object) fields.Set                  // always with metadata.name and metadata.namespace
	Grace        func(obj Object, requested *int64) int64 // nil: delete at once
	Columns      []Column[Object]
	Scale        *Scale[Object] // nil: no scale subresource
	WholeUpdate  bool           // ValidateUpdate judges all of the new object: Validate is for creations
	Custom       *CustomType    // set when the kind was defined at runtime: its objects are *Custom

	goType reflect.Type
	prefix string
}

// Resource is the group, version and plural: what a URL names.
func (t *Type) Resource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: t.Group, Version: t.Version, Resource: t.Plural}
}

// Prefix is the folder in the store that holds the kind's objects, and nothing else, with the slash at its end:
// /registry/pods/, /registry/minions/.
func (t *Type) Prefix() string { return t.prefix }

// Place sets Prefix: for Types that are not made from a Kind.
func (t *Type) Place(storage string) { t.prefix = "/registry/" + storage + "/" }

// Key is where an object is stored, laid out as Kubernetes does: /registry/pods/default/web, /registry/minions/a,
// /registry/services/specs/default/web. Group is not part of it, again as there.
func (t *Type) Key(namespace, name string) string {
	if t.Cluster {
		return t.Prefix() + name
	}
	return t.Prefix() + namespace + "/" + name
}

// Type erases k's Go type. It panics when k is not well formed; All is built when the program starts, so any test sees it.
func (k Kind[T]) Type() *Type {
	gvk := schema.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Name}
	if _, ok := any(new(T)).(Object); !ok {
		panic(fmt.Sprintf("kinds: %T is no API object", new(T)))
	}
	t := &Type{
		GroupVersionKind: gvk,
		Plural:           k.Plural,
		Singular:         strings.ToLower(k.Name),
		Short:            k.Short,
		Categories:       k.Categories,
		Cluster:          k.Cluster,
		Virtual:          k.Virtual,
		HasStatus:        k.HasStatus,
		NoGeneration:     k.NoGeneration,

		New:            func() Object { return any(new(T)).(Object) },
		NewList:        func() runtime.Object { return newList(gvk) },
		Default:        erase(k.Default),
		Restore:        erase(k.Restore),
		Validate:       erase1(k.Validate),
		ValidateUpdate: erase2(k.ValidateUpdate),
		ValidateStatus: erase2(k.ValidateStatus),
		ValidateName:   k.ValidateName,
		BeforeCreate:   eraseCreate(k),
		BeforeUpdate:   func(Object, Object) {},
		BeforeDelete:   erase(k.BeforeDelete),
		CopyStatus:     copyStatus[T],
		SpecEqual:      specEqual[T],
		Fields:         eraseFields(k.Fields),
		Columns:        eraseColumns(k.Columns),
		Served:         []Version{HubVersion(gvk, func() Object { return any(new(T)).(Object) })},

		WholeUpdate: k.WholeUpdate,

		goType: reflect.TypeFor[T](),
	}
	t.Place(cmp.Or(k.Storage, k.Plural))
	if t.ValidateName == nil {
		t.ValidateName = validation.NameIsDNSSubdomain
	}
	if k.BeforeUpdate != nil {
		t.BeforeUpdate = func(new, old Object) { k.BeforeUpdate(as[T](new), as[T](old)) }
	}
	if k.SameSpec != nil {
		t.SpecEqual = func(a, b Object) bool { return k.SameSpec(as[T](a), as[T](b)) }
	}
	if k.Grace != nil {
		t.Grace = func(o Object, requested *int64) int64 { return k.Grace(as[T](o), requested) }
	}
	if k.Scale != nil {
		t.Scale = &Scale[Object]{
			Get: func(o *Object) (int32, int32, string) { return k.Scale.Get(as[T](*o)) },
			Set: func(o *Object, n int32) { k.Scale.Set(as[T](*o), n) },
		}
	}
	for _, s := range k.Served {
		t.Served = append(t.Served, s.erase(k.Name))
	}
	return t
}

// as is the one place where an object's dynamic type is trusted.
func as[T any](o Object) *T { return any(o).(*T) }

func erase[T any](f func(*T)) func(Object) {
	if f == nil {
		return func(Object) {}
	}
	return func(o Object) { f(as[T](o)) }
}

// eraseCreate empties the status, which belongs to the owner of the object, before the kind has its say.
func eraseCreate[T any](k Kind[T]) func(Object) {
	then := erase(k.BeforeCreate)
	if !k.HasStatus || k.StatusOnCreate {
		return then
	}
	return func(o Object) {
		reflect.ValueOf(as[T](o)).Elem().FieldByName("Status").SetZero()
		then(o)
	}
}

func erase1[T any](f func(*T) field.ErrorList) func(Object) field.ErrorList {
	if f == nil {
		return func(Object) field.ErrorList { return nil }
	}
	return func(o Object) field.ErrorList { return f(as[T](o)) }
}

func erase2[T any](f func(new, old *T) field.ErrorList) func(new, old Object) field.ErrorList {
	if f == nil {
		return func(_, _ Object) field.ErrorList { return nil }
	}
	return func(new, old Object) field.ErrorList { return f(as[T](new), as[T](old)) }
}

func eraseFields[T any](f func(*T) fields.Set) func(Object) fields.Set {
	return func(o Object) fields.Set {
		set := fields.Set{}
		if f != nil {
			set = f(as[T](o))
		}
		set["metadata.name"] = o.GetName()
		set["metadata.namespace"] = o.GetNamespace()
		return set
	}
}

func eraseColumns[T any](in []Column[T]) []Column[Object] {
	out := make([]Column[Object], len(in))
	for i, c := range in {
		out[i] = Column[Object]{
			Name: c.Name, Type: c.Type, Format: c.Format, Priority: c.Priority, Description: c.Description,
			Cell: func(o *Object, now time.Time) any { return c.Cell(as[T](*o), now) },
		}
	}
	return out
}

func newList(gvk schema.GroupVersionKind) runtime.Object {
	list, err := Scheme().New(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
	if err != nil {
		panic(fmt.Sprintf("kinds: %v", err))
	}
	return list
}

// copyStatus and specEqual go by the three fields every API struct has in common; reflection only finds them.
func copyStatus[T any](dst, src Object) {
	from := reflect.ValueOf(as[T](src)).Elem().FieldByName("Status")
	if from.IsValid() {
		reflect.ValueOf(as[T](dst)).Elem().FieldByName("Status").Set(from)
	}
}

func specEqual[T any](a, b Object) bool {
	x, y := *as[T](a), *as[T](b)
	for _, v := range []reflect.Value{reflect.ValueOf(&x).Elem(), reflect.ValueOf(&y).Elem()} {
		v.FieldByName("TypeMeta").SetZero()
		v.FieldByName("ObjectMeta").SetZero()
		if s := v.FieldByName("Status"); s.IsValid() {
			s.SetZero()
		}
	}
	return equality.Semantic.DeepEqual(x, y)
}

var _ Object = (*metav1.PartialObjectMetadata)(nil)
