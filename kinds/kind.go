// SPDX-License-Identifier: Apache-2.0

// Package kinds says what each kind of API object is: its identity, defaults, validation and table columns, one file a
// kind, listed in all.go.
//
// Everything that serves, stores, prints or watches objects derives from these values: routes, storage prefix, discovery,
// OpenAPI, tables, client, cache. The Go types are Kubernetes' own (k8s.io/api); each kind has one hub version, the one
// stored and handed to every component inside Knarr.
//
// The package does no I/O, starts no goroutine and keeps no state; the functions of a Kind are pure and may be called
// concurrently. Objects given to Validate and Columns are shared and read-only.
package kinds

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is any API object of the hub version.
type Object interface {
	runtime.Object
	metav1.Object
}

// Kind describes one kind whose hub Go type is T (corev1.Pod, not a pointer to it). Zero values mean "nothing special".
type Kind[T any] struct {
	Group, Version, Name string   // "" is the core group
	Plural               string   // the resource: "pods"
	Short                []string // "po"
	Categories           []string // "all"
	Cluster              bool     // not in a namespace

	// Default fills in what the author left out. It is idempotent.
	Default func(*T)
	// Validate lists every fault of an object that has been defaulted; metadata is validated by the caller.
	Validate func(*T) field.ErrorList
	// ValidateUpdate lists every forbidden change; Validate has run on new already.
	ValidateUpdate func(new, old *T) field.ErrorList
	// ValidateStatus lists the faults of a write to the status subresource; nil accepts.
	ValidateStatus func(new, old *T) field.ErrorList

	// Columns are what `kubectl get` prints after or instead of Name and before Age; in order.
	Columns []Column[T]
	// Fields are the selectable fields beside metadata.name and metadata.namespace, by path ("spec.nodeName").
	Fields func(*T) fields.Set

	HasStatus bool // has a status subresource: ordinary writes leave .status alone, status writes leave the rest
	// NoGeneration: metadata.generation is not kept (kinds with neither spec nor status).
	NoGeneration bool
	// BeforeCreate and BeforeUpdate settle fields that belong to the server (a Deployment's generation is done for all
	// kinds; a Pod's QoS class, a Secret's stringData are the kind's own).
	BeforeCreate func(*T)
	BeforeUpdate func(new, old *T)
	// Grace is how many seconds a deletion waits for the owner of the object to finish it; nil: delete at once.
	// requested is what the client asked for, nil for the kind's default.
	Grace func(obj *T, requested *int64) int64
	// Scale gives access to the replica count for the scale subresource; nil: there is none.
	Scale *Scale[T]
}

// Column is one column of the server-side table (meta.k8s.io/v1 Table).
type Column[T any] struct {
	Name        string
	Type        string // "string", "integer", "date"; default "string"
	Format      string // "name" for the first column
	Priority    int32  // 0: always shown; 1: with -o wide
	Description string
	Cell        func(*T) any
}

// Scale reads and writes the replica count of a scalable kind.
type Scale[T any] struct {
	Get func(*T) (spec, status int32, selector string)
	Set func(*T, int32)
}

// Type is a Kind with the Go type erased: what generic code (API server, cache, client) works with. Its functions panic
// when given an object of another kind: that is a fault of the caller, never of input.
type Type struct {
	schema.GroupVersionKind
	Plural, Singular  string
	Short, Categories []string
	Cluster           bool
	HasStatus         bool

	New            func() Object         // an empty object with apiVersion and kind unset
	NewList        func() runtime.Object // an empty PodList
	Default        func(Object)
	Validate       func(Object) field.ErrorList
	ValidateUpdate func(new, old Object) field.ErrorList
	ValidateStatus func(new, old Object) field.ErrorList
	BeforeCreate   func(Object)
	BeforeUpdate   func(new, old Object)
	// CopyStatus makes dst's status src's: the two halves of the status subresource. Nil without status.
	CopyStatus func(dst, src Object)
	// SpecEqual: everything but metadata and status is semantically equal; it decides about metadata.generation.
	SpecEqual    func(a, b Object) bool
	NoGeneration bool
	Fields       func(Object) fields.Set                  // always with metadata.name and metadata.namespace
	Grace        func(obj Object, requested *int64) int64 // nil: delete at once
	Columns      []Column[Object]
	Scale        *Scale[Object]
}

// Resource is the group, version and plural: what a URL names.
func (t *Type) Resource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: t.Group, Version: t.Version, Resource: t.Plural}
}

// Key is where an object is stored, laid out as Kubernetes does: /registry/pods/default/web, /registry/nodes/a,
// /registry/services/specs/default/web. Group is not part of it, again as there.
func (t *Type) Key(namespace, name string) string {
	if t.Cluster {
		return t.Prefix() + name
	}
	return t.Prefix() + namespace + "/" + name
}
