// SPDX-License-Identifier: Apache-2.0

// Package garbage deletes what its owners left behind, and carries out foreground and orphaning deletions.
//
//	an owner reference is   dangling  nobody with that UID exists
//	                        waiting   the owner is being deleted in the foreground, and this reference blocks it
//	                        solid     else; also when the owner's kind is unknown here: then nothing is known
//
//	a dependent    with a solid owner drops its other references; without one it is deleted
//	an owner       with the finalizer foregroundDeletion waits for those that block it; with orphan it strips its
//	               dependents of the references to it; then the finalizer is taken away
//
// A key is one object: its namespace, and its resource and name ("replicasets.apps/web-1"). It keeps no state; Decide is pure.
package garbage

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Object     kinds.Object
	Dangling   []metav1.OwnerReference
	Waiting    []metav1.OwnerReference
	Solid      []metav1.OwnerReference
	Dependents []kinds.Object // looked for only when Object's deletion concerns them, or when it waits
}

// Controller collects garbage.
func Controller() reconcile.Controller {
	return reconcile.Define("garbage-collector-controller", []reconcile.Watch{reconcile.Every(concerned, differ)}, Observe, Decide)
}

// differ: of an object that stays, only these parts matter.
func differ(old, new kinds.Object) bool {
	return (old.GetDeletionTimestamp() == nil) != (new.GetDeletionTimestamp() == nil) ||
		!slices.EqualFunc(old.GetOwnerReferences(), new.GetOwnerReferences(), sameRef) ||
		!slices.Equal(old.GetFinalizers(), new.GetFinalizers())
}

func sameRef(a, b metav1.OwnerReference) bool { return a.UID == b.UID && blocks(a) == blocks(b) }

func blocks(r metav1.OwnerReference) bool {
	return r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion
}

func keyOf(o kinds.Object) reconcile.Key {
	return reconcile.Key{Namespace: o.GetNamespace(), Name: kinds.Of(o).Resource().GroupResource().String() + "/" + o.GetName()}
}

// concerned are the object itself, if somebody owns it or its deletion is not plain; its owners, if they may be waiting
// for it; and its dependents, if it is gone or going.
func concerned(s *cache.Snapshot, o kinds.Object) []reconcile.Key {
	var keys []reconcile.Key
	if len(o.GetOwnerReferences()) > 0 || going(o) {
		keys = append(keys, keyOf(o))
	}
	for _, ref := range o.GetOwnerReferences() {
		if owner := find(s, o.GetNamespace(), ref); owner != nil && going(owner) {
			keys = append(keys, keyOf(owner))
		}
	}
	now, ok := s.Get(kinds.Of(o), o.GetNamespace(), o.GetName())
	if !ok || now.Object.GetUID() != o.GetUID() || going(o) {
		for e := range s.OwnedBy(o.GetUID()) {
			keys = append(keys, keyOf(e.Object))
		}
	}
	return keys
}

// going: it is being deleted, and this controller has a part in it.
func going(o kinds.Object) bool {
	return o.GetDeletionTimestamp() != nil && (holds(o, metav1.FinalizerDeleteDependents) || holds(o, metav1.FinalizerOrphanDependents))
}

func holds(o kinds.Object, finalizer string) bool {
	return slices.Contains(o.GetFinalizers(), finalizer)
}

// find is the owner a reference names; nil when it does not exist (any more).
func find(s *cache.Snapshot, ns string, ref metav1.OwnerReference) kinds.Object {
	t, ok := ownerType(s, ref)
	if !ok {
		return nil
	}
	e, ok := s.Get(t, ns, ref.Name)
	if !ok || e.Object.GetUID() != ref.UID {
		return nil
	}
	return e.Object
}

func ownerType(s *cache.Snapshot, ref metav1.OwnerReference) (*kinds.Type, bool) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, false
	}
	return s.TypeOfKind(schema.GroupKind{Group: gv.Group, Kind: ref.Kind})
}

// Observe gathers one object and what is known of its owners and dependents.
func Observe(s *cache.Snapshot, k reconcile.Key, _ time.Time) (State, bool) {
	resource, name, _ := strings.Cut(k.Name, "/")
	t := s.Kinds().FindGroupResource(schema.ParseGroupResource(resource))
	if t == nil {
		return State{}, false
	}
	e, ok := s.Get(t, k.Namespace, name)
	if !ok {
		return State{}, false
	}
	st := State{Object: e.Object}
	for _, ref := range e.Object.GetOwnerReferences() {
		_, known := ownerType(s, ref)
		owner := find(s, k.Namespace, ref)
		switch {
		case !known:
			st.Solid = append(st.Solid, ref)
		case owner == nil:
			st.Dangling = append(st.Dangling, ref)
		case owner.GetDeletionTimestamp() != nil && holds(owner, metav1.FinalizerDeleteDependents) && blocks(ref):
			st.Waiting = append(st.Waiting, ref)
		default:
			st.Solid = append(st.Solid, ref)
		}
	}
	if going(e.Object) || len(st.Waiting) > 0 {
		for d := range s.OwnedBy(e.Object.GetUID()) {
			st.Dependents = append(st.Dependents, d.Object)
		}
	}
	return st, true
}
