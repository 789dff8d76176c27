// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// Controller is a control loop as a value. Make it with Define.
type Controller struct {
	Name    string // as events name it: "replicaset-controller"
	watches []Watch
	plan    func(s *cache.Snapshot, key Key, now time.Time) (Plan, bool)
}

// Define makes a controller of two functions. observe gathers from one snapshot all that decide may look at; false says
// that the key means nothing any more. decide is pure.
func Define[S any](name string, watches []Watch, observe func(*cache.Snapshot, Key, time.Time) (S, bool), decide func(S) Plan) Controller {
	return Controller{Name: name, watches: watches, plan: func(s *cache.Snapshot, key Key, now time.Time) (Plan, bool) {
		state, ok := observe(s, key, now)
		if !ok {
			return Plan{}, false
		}
		return decide(state), true
	}}
}

// Explain says what the controller would do about key; false: nothing, for the key means nothing to it.
func (c Controller) Explain(s *cache.Snapshot, key Key, now time.Time) (Plan, bool) {
	return c.plan(s, key, now)
}

// Keys lists all keys that the objects of a snapshot concern, some maybe more than once.
func (c Controller) Keys(s *cache.Snapshot) []Key {
	var keys []Key
	for _, w := range c.watches {
		types := []*kinds.Type{w.Type}
		if w.Type == nil {
			types = s.Types()
		}
		for _, t := range types {
			for e := range s.List(t, "") {
				keys = append(keys, w.keys(s, e.Object)...)
			}
		}
	}
	return keys
}

// Watch says which keys to look at again when an object changes.
type Watch struct {
	Type *kinds.Type // nil: every kind, those too that are defined later
	// keys is asked for the object before and after a change. s is the newest snapshot.
	keys func(s *cache.Snapshot, obj kinds.Object) []Key
	// differ, if set, leaves out changes that cannot matter.
	differ func(old, new kinds.Object) bool
}

// Objects: the key is the changed object's own namespace and name.
func Objects[T any]() Watch {
	return Watch{Type: kinds.For[T](), keys: func(_ *cache.Snapshot, o kinds.Object) []Key {
		return []Key{{Namespace: o.GetNamespace(), Name: o.GetName()}}
	}}
}

// OwnedBy: the key is the controlling owner of the changed T, if that is an O.
func OwnedBy[O, T any]() Watch {
	owner := kinds.For[O]()
	return Watch{Type: kinds.For[T](), keys: func(_ *cache.Snapshot, o kinds.Object) []Key {
		ref := metav1.GetControllerOfNoCopy(o)
		if ref == nil || ref.Kind != owner.Kind || !sameGroup(ref.APIVersion, owner.Group) {
			return nil
		}
		if owner.Cluster {
			return []Key{{Name: ref.Name}}
		}
		return []Key{{Namespace: o.GetNamespace(), Name: ref.Name}}
	}}
}

func sameGroup(apiVersion, group string) bool {
	for i := range apiVersion {
		if apiVersion[i] == '/' {
			return apiVersion[:i] == group
		}
	}
	return group == ""
}

// Mapped: the keys are computed from the changed object, as it was and as it is.
func Mapped[T any](keys func(s *cache.Snapshot, obj *T) []Key) Watch {
	return Watch{Type: kinds.For[T](), keys: func(s *cache.Snapshot, o kinds.Object) []Key {
		return keys(s, any(o).(*T))
	}}
}

// Every is Mapped for all kinds there are and will be. differ, if not nil, leaves out changes that cannot matter; creations
// and deletions always pass.
func Every(keys func(*cache.Snapshot, kinds.Object) []Key, differ func(old, new kinds.Object) bool) Watch {
	return Watch{keys: keys, differ: differ}
}

// If narrows w to changes for which differ is true; creations and deletions always pass.
func If[T any](w Watch, differ func(old, new *T) bool) Watch {
	w.differ = func(old, new kinds.Object) bool { return differ(any(old).(*T), any(new).(*T)) }
	return w
}

// concerned lists the keys of one change.
func (w Watch) concerned(s *cache.Snapshot, c cache.Change) []Key {
	if c.Old != nil && c.New != nil && w.differ != nil && !w.differ(c.Old.Object, c.New.Object) {
		return nil
	}
	var keys []Key
	if c.New != nil {
		keys = w.keys(s, c.New.Object)
	}
	if c.Old != nil {
		for _, k := range w.keys(s, c.Old.Object) {
			if !contains(keys, k) {
				keys = append(keys, k)
			}
		}
	}
	return keys
}

func contains(keys []Key, k Key) bool {
	for _, x := range keys {
		if x == k {
			return true
		}
	}
	return false
}
