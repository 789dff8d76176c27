// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"iter"

	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/kinds"
)

// Get finds one object by its Go type: cache.Get[corev1.Pod](s, "default", "web"). The object is shared: do not write to it.
func Get[T any](s *Snapshot, ns, name string) (*T, bool) {
	e, ok := s.Get(kinds.For[T](), ns, name)
	if !ok {
		return nil, false
	}
	obj, ok := any(e.Object).(*T)
	return obj, ok
}

// List yields the objects of a Go type, ascending by "namespace/name"; ns "" means all namespaces.
func List[T any](s *Snapshot, ns string) iter.Seq[*T] {
	return typed[T](s.List(kinds.For[T](), ns))
}

// Owned yields the objects of a Go type that name uid as an owner.
func Owned[T any](s *Snapshot, uid types.UID) iter.Seq[*T] {
	return Indexed[T](s, ByOwner, string(uid))
}

// Indexed is Snapshot.ByIndex by Go type: cache.Indexed[corev1.Pod](s, cache.ByNode, "node-1").
func Indexed[T any](s *Snapshot, ix Index, value string) iter.Seq[*T] {
	return typed[T](s.ByIndex(kinds.For[T](), ix, value))
}

// As is the Object of an entry by Go type; nil if it is of another kind.
func As[T any](e *Entry) *T {
	obj, _ := any(e.Object).(*T)
	return obj
}

func typed[T any](entries iter.Seq[*Entry]) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for e := range entries {
			if obj, ok := any(e.Object).(*T); ok && !yield(obj) {
				return
			}
		}
	}
}
