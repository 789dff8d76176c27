// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/knarr/knarr/kinds"
)

// Kinds says which kinds a snapshot holds. It never changes, and snapshots share it as long as their kinds are the same:
// whoever makes something of all kinds (discovery, documents) keeps it by this pointer.
type Kinds struct {
	types   []*kinds.Type
	number  map[string]int // by folder in the store; a folder keeps its number for ever
	defined map[string]*kinds.Definition
	served  map[schema.GroupVersionResource]*kinds.Type
}

func newKinds(types []*kinds.Type) *Kinds {
	k := &Kinds{types: types, number: map[string]int{}}
	for i, t := range types {
		k.number[t.Prefix()] = i
	}
	return k
}

// Defined are the kinds that were defined at runtime, by folder in the store.
func (k *Kinds) Defined() map[string]*kinds.Definition { return k.defined }

// Custom is every served version of the kinds that were defined at runtime, in the order of their folders.
func (k *Kinds) Custom() []*kinds.Type {
	var out []*kinds.Type
	for _, folder := range slices.Sorted(maps.Keys(k.defined)) {
		out = append(out, k.defined[folder].Served...)
	}
	return out
}

// FindResource is the type and version served under a URL's group, version and plural: one of kinds.All or kinds.Virtual,
// or one that was defined at runtime; nil, nil when there is none.
func (k *Kinds) FindResource(gvr schema.GroupVersionResource) (*kinds.Type, *kinds.Version) {
	if t, v := kinds.FindResource(gvr); t != nil {
		return t, v
	}
	if t := k.served[gvr]; t != nil {
		return t, &t.Served[0]
	}
	return nil, nil
}

// FindGroupResource is the type of a group and plural, in whichever version.
func (k *Kinds) FindGroupResource(gr schema.GroupResource) *kinds.Type {
	for _, t := range k.types {
		if t.Plural == gr.Resource && t.Group == gr.Group {
			return t
		}
	}
	return nil
}

// with is k after definitions have changed; a nil Definition is gone.
func (k *Kinds) with(changes []Redefinition) *Kinds {
	n := &Kinds{number: maps.Clone(k.number), defined: maps.Clone(k.defined), served: map[schema.GroupVersionResource]*kinds.Type{}}
	if n.defined == nil {
		n.defined = map[string]*kinds.Definition{}
	}
	for _, c := range changes {
		if c.Definition == nil {
			delete(n.defined, c.Folder)
			continue
		}
		n.defined[c.Folder] = c.Definition
		if _, ok := n.number[c.Folder]; !ok {
			n.number[c.Folder] = len(n.number)
		}
	}
	for _, t := range k.types {
		if t.Custom == nil {
			n.types = append(n.types, t)
		}
	}
	for _, folder := range slices.Sorted(maps.Keys(n.defined)) {
		n.types = append(n.types, n.defined[folder].Versions[0])
		for _, t := range n.defined[folder].Served {
			n.served[t.Resource()] = t
		}
	}
	return n
}
