// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/kinds"
)

// Key names what a pass is about. Its meaning is the controller's; mostly the namespace and name of its main object.
type Key = types.NamespacedName

// Plan is what a controller wants done: data, in order.
type Plan struct {
	Actions []Action
	Status  kinds.Object  // written last through the status subresource; nil leaves it
	Again   time.Duration // look again then; zero: when something changes
	Why     string        // one sentence for explain and the debug log
}

// Action is one of the types below: a closed set.
type Action interface{ action() }

// Create makes an object. One that exists already ends the pass, as any failure does.
type Create struct {
	Object kinds.Object
	Failed *Event // told when it fails, with the error after its message
	// Otherwise, if set, is the object whose status tells of the failure; it is written once when the creation fails.
	Otherwise func(err error) kinds.Object
}

// Update replaces an object, or a subresource of it ("finalize"); its resourceVersion is the precondition.
type Update struct {
	Object      kinds.Object
	Subresource string
}

// Delete removes an object if it still has that UID (and, if set, that resourceVersion).
type Delete struct {
	Object      kinds.Object // type, namespace, name, uid are read from it
	IfVersion   bool         // also demand its resourceVersion
	Now         bool         // no grace period
	Propagation string       // "", "Background", "Foreground", "Orphan"
}

// UpdateStatus writes the status of another object than Plan.Status's.
type UpdateStatus struct{ Object kinds.Object }

// Post creates a subresource of an object ("eviction", "binding").
type Post struct {
	Object      kinds.Object // whose: type, namespace, name are read from it
	Subresource string
	Body        kinds.Object
}

// Event tells people. The same event again within a while is counted, not repeated.
type Event struct {
	Regarding       kinds.Object
	Type            string // "Normal", "Warning"
	Reason, Message string
}

// Batch applies its actions in parallel; it is done when all are, and fails with all their errors.
type Batch struct{ Actions []Action }

// Empty: nothing is to be written. Events and Again do not count.
func (p *Plan) Empty() bool {
	if p.Status != nil {
		return false
	}
	for _, a := range p.Actions {
		if !quiet(a) {
			return false
		}
	}
	return true
}

func quiet(a Action) bool {
	switch a := a.(type) {
	case Event:
		return true
	case Batch:
		p := Plan{Actions: a.Actions}
		return p.Empty()
	}
	return false
}

func (Create) action()       {}
func (Update) action()       {}
func (Delete) action()       {}
func (UpdateStatus) action() {}
func (Post) action()         {}
func (Event) action()        {}
func (Batch) action()        {}
