// SPDX-License-Identifier: Apache-2.0

// Package reconcile is the control loop, written once: queue, observe, decide, apply, back off, explain.
//
// A controller is a value: which changes concern which keys, a function that observes one key in one snapshot, and a pure
// function that decides. The loop keeps the five laws:
//
//  1. Level, not edge: a key says only "look again"; the event is never an argument.
//  2. One snapshot a pass: everything Observe reads is of one revision.
//  3. Read your writes: a key is not decided before the cache has reached the last revision that was written for it.
//  4. The plan is complete: the applier makes no choices; the first failed action ends the pass and all is decided anew.
//  5. Decide converges: with its actions applied to a model world, passes end in an empty plan.
//
// It owns the queue and its workers; it keeps no object. Objects inside snapshots and plans are shared and read-only.
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
type Create struct{ Object kinds.Object }

// Update replaces an object; its resourceVersion is the precondition.
type Update struct{ Object kinds.Object }

// Delete removes an object if it still has that UID (and, if set, that resourceVersion).
type Delete struct {
	Object      kinds.Object // type, namespace, name, uid are read from it
	IfVersion   bool         // also demand its resourceVersion
	Propagation string       // "", "Background", "Foreground", "Orphan"
}

// UpdateStatus writes the status of another object than Plan.Status's.
type UpdateStatus struct{ Object kinds.Object }

// Event tells people. The same event again within a while is counted, not repeated.
type Event struct {
	Regarding       kinds.Object
	Type            string // "Normal", "Warning"
	Reason, Message string
}

// Batch applies its actions in parallel; it is done when all are, and fails with all their errors.
type Batch struct{ Actions []Action }

func (Create) action()       {}
func (Update) action()       {}
func (Delete) action()       {}
func (UpdateStatus) action() {}
func (Event) action()        {}
func (Batch) action()        {}
