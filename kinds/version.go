// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Served is one version beside the hub under which a kind is served: its own Go type, and the way to the hub and back.
// Versions know only the hub, never each other. Make it with Via.
type Served[T any] struct {
	Group, Version string
	new            func() Object
	toHub          func(Object) *T
	fromHub        func(*T) Object
	defaults       func(*T)
	alike          [2]reflect.Type // the two Go types when Alike made it
}

// Via describes a served version whose Go type is V. to and from fill in an empty second argument; they may share what the
// first points to, and need not set apiVersion and kind.
func Via[T, V any](group, version string, to func(*V, *T), from func(*T, *V)) Served[T] {
	return Served[T]{
		Group: group, Version: version,
		new: func() Object { return any(new(V)).(Object) },
		toHub: func(o Object) *T {
			hub := new(T)
			to(as[V](o), hub)
			return hub
		},
		fromHub: func(hub *T) Object {
			v := new(V)
			from(hub, v)
			return any(v).(Object)
		},
	}
}

// Defaulted adds what this version, unlike the hub, makes of a field left out. f sees the hub object that was made of what
// a client wrote, before the hub's own defaults. Conversion alone does not default: who reads an object in an old version
// and writes it back must not change it.
func (s Served[T]) Defaulted(f func(*T)) Served[T] {
	s.defaults = f
	return s
}

// Version is one served version with the Go types erased.
type Version struct {
	schema.GroupVersionKind
	New     func() Object         // an empty object of this version
	NewList func() runtime.Object // an empty list of this version
	// ToHub and FromHub convert; the result may share memory with the argument and has apiVersion and kind unset. For the
	// hub's own version they return the argument itself.
	ToHub   func(Object) Object
	FromHub func(Object) Object
	// Default fills in, in a hub object just converted from what a client wrote, what this version alone defaults.
	Default func(Object)
	Hub     bool

	alike [2]reflect.Type
}

// HubVersion is the version that is the hub itself.
func HubVersion(gvk schema.GroupVersionKind, make func() Object) Version {
	same := func(o Object) Object { return o }
	return Version{GroupVersionKind: gvk, New: make, NewList: func() runtime.Object { return newList(gvk) }, ToHub: same, FromHub: same, Default: func(Object) {}, Hub: true}
}

func (s Served[T]) erase(name string) Version {
	gvk := schema.GroupVersionKind{Group: s.Group, Version: s.Version, Kind: name}
	if s.new == nil {
		panic(fmt.Sprintf("kinds: %s was not made with Via", gvk))
	}
	return Version{
		GroupVersionKind: gvk,
		New:              s.new,
		alike:            s.alike,
		NewList:          func() runtime.Object { return newList(gvk) },
		ToHub:            func(o Object) Object { return any(s.toHub(o)).(Object) },
		FromHub:          func(o Object) Object { return s.fromHub(as[T](o)) },
		Default:          erase(s.defaults),
	}
}

// Deprecated is what a client that uses this version should be told; empty while the version is current.
func (v *Version) Deprecated(t *Type) string {
	if v.Hub || !strings.ContainsAny(v.Version, "ab") {
		return ""
	}
	use := t.GroupVersion()
	for _, other := range t.Served {
		if other.Group == v.Group && !strings.ContainsAny(other.Version, "ab") {
			use = other.GroupVersion()
		}
	}
	return fmt.Sprintf("%s %s is deprecated; use %s %s", v.GroupVersion(), v.Kind, use, t.Kind)
}
