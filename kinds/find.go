// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"reflect"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// For is the type whose hub Go type is T. It panics when there is none: T is written in the program, not read.
func For[T any]() *Type {
	t := tables().byGo[reflect.TypeFor[T]()]
	if t == nil {
		panic(fmt.Sprintf("kinds: no kind for %s", reflect.TypeFor[T]()))
	}
	return t
}

// Of is the type of a hub object, or nil.
func Of(o Object) *Type {
	if c, ok := o.(*Custom); ok {
		return c.Type
	}
	if v := reflect.TypeOf(o); v != nil && v.Kind() == reflect.Pointer {
		return tables().byGo[v.Elem()]
	}
	return nil
}

// FindResource is the type and version served under a URL's group, version and plural; nil, nil when there is none.
func FindResource(gvr schema.GroupVersionResource) (*Type, *Version) {
	s := tables().byResource[gvr]
	return s.t, s.v
}

// FindName is what a person means by a word: a plural, singular, kind or short name in any case, optionally with its group
// ("deployments.apps"). Nil when there is none; the first in the order of All when the word is ambiguous.
func FindName(word string) *Type {
	return tables().byName[strings.ToLower(word)]
}

type served struct {
	t *Type
	v *Version
}

type index struct {
	byGo       map[reflect.Type]*Type
	byResource map[schema.GroupVersionResource]served
	byName     map[string]*Type
}

// tables are made once, from All and Virtual.
var tables = sync.OnceValue(func() *index {
	x := &index{
		byGo:       map[reflect.Type]*Type{},
		byResource: map[schema.GroupVersionResource]served{},
		byName:     map[string]*Type{},
	}
	for _, list := range [][]*Type{All, Virtual} {
		for _, t := range list {
			x.add(t)
		}
	}
	return x
})

func (x *index) add(t *Type) {
	x.byGo[t.goType] = t
	for i := range t.Served {
		v := &t.Served[i]
		x.byResource[v.GroupVersion().WithResource(t.Plural)] = served{t, v}
	}
	for _, w := range append([]string{t.Plural, t.Singular}, t.Short...) {
		for _, full := range []string{w, w + "." + t.Group} {
			if x.byName[full] == nil {
				x.byName[full] = t
			}
		}
	}
}
