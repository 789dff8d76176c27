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
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
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
	Storage              string   // folder under /registry/ where it differs from Plural: "services/specs"
	Cluster              bool     // not in a namespace
	Virtual              bool     // carried by requests, never stored (SubjectAccessReview, Binding)

	// Served are the versions beside the hub under which the kind is read and written.
	Served []Served[T]

	// Default fills in what the author left out. It is idempotent.
	Default func(*T)
	// Restore adds what protobuf cannot carry to an object that was decoded from it; nil: there is nothing such.
	Restore func(*T)
	// Validate lists every fault of an object that has been defaulted; metadata is validated by the caller.
	Validate func(*T) field.ErrorList
	// ValidateUpdate lists every forbidden change; Validate has run on new already.
	ValidateUpdate func(new, old *T) field.ErrorList
	// WholeUpdate: ValidateUpdate judges all of new, and Validate is not asked about updates.
	WholeUpdate bool
	// ValidateStatus lists the faults of a write to the status subresource; nil accepts.
	ValidateStatus func(new, old *T) field.ErrorList

	// Columns are the whole table `kubectl get` prints, name and age included, in order.
	Columns []Column[T]
	// Fields are the selectable fields beside metadata.name and metadata.namespace, by path ("spec.nodeName"). The set of
	// keys is the same for every object: a selector with another key is refused.
	Fields func(*T) fields.Set

	HasStatus bool // has a status subresource: ordinary writes leave .status alone, status writes leave the rest
	// StatusOnCreate: creation keeps the status the client sent (Node); otherwise it is emptied before BeforeCreate.
	StatusOnCreate bool
	// NoGeneration: metadata.generation is not kept, as upstream does for this kind.
	NoGeneration bool
	// SameSpec overrides what counts as "the spec did not change" for metadata.generation; nil: everything but metadata
	// and status is semantically equal.
	SameSpec func(a, b *T) bool
	// ValidateName lists what is wrong with metadata.name, as sentences; prefix says it is a generateName. Nil: a DNS
	// subdomain.
	ValidateName func(name string, prefix bool) []string
	// BeforeCreate and BeforeUpdate settle fields that belong to the server (a Deployment's generation is done for all
	// kinds; a Pod's QoS class, a Secret's stringData are the kind's own).
	BeforeCreate func(*T)
	BeforeUpdate func(new, old *T)
	// BeforeDelete settles what the end of an object has to wait for, when its deletion is first asked for: finalizers.
	BeforeDelete func(*T)
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
	// Cell is the text or number to print; now is for ages.
	Cell func(o *T, now time.Time) any
}

// Scale reads and writes the replica count of a scalable kind.
type Scale[T any] struct {
	Get func(*T) (spec, status int32, selector string)
	Set func(*T, int32)
}
