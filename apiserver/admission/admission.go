// SPDX-License-Identifier: Apache-2.0

// Package admission changes and judges writes between authorisation and validation: an explicit, ordered list of steps,
// one file each.
//
// A step may look at the request, at a Lookup of the cluster's state, and may change Request.Object, which is the
// request's own copy. First all Mutate functions run, in order; then the object is defaulted and validated; then all
// Validate functions run, in order. The first error ends the write, and the client gets it.
//
// A step that judges by another object says so with Request.Require: then the write is applied only if that object is
// still as it was, in one transaction, so that no race slips through (a ConfigMap into a namespace that just began to end).
//
// The package keeps no state, starts no goroutine and writes nothing but the request's object.
package admission

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// Verb is what is done to the object.
type Verb string

// The verbs that are admitted; reads are not.
const (
	Create Verb = "create"
	Update Verb = "update"
	Delete Verb = "delete"
	// Connect is not a write but a connection to what an object stands for (exec, attach, portforward, proxy): only the
	// steps that say so (Step.Connects) are asked.
	Connect Verb = "connect"
)

// Request is one write.
type Request struct {
	User        auth.User
	Verb        Verb
	Type        *kinds.Type
	Namespace   string
	Name        string // "" when it will be generated
	Subresource string
	Object      kinds.Object   // what will be stored, or the subresource's own kind; steps may change it. Nil for Delete
	Old         kinds.Object   // what is stored; shared, read-only. Nil for Create
	Connection  runtime.Object // for Connect, how: a PodExecOptions or its like
	DryRun      bool
	Version     *kinds.Version // in which the client speaks; nil: the hub
	Options     Options
	Warn        func(string) // tells the client, beside the answer
	Lookup      Lookup

	required []*cache.Entry
	also     []Also
	again    bool // the steps run a second time, because a webhook changed what others had seen
	changed  bool // a webhook or policy changed the object in this pass
	audit    map[string]string
	seen     map[string]kinds.Object // what a webhook left, by its key
	said     *[]string               // warnings of a webhook that is asked beside others
}

// Options are what the client said beside the object, for webhooks to see.
type Options struct {
	FieldManager, FieldValidation string
	GracePeriod                   *int64
	Propagation                   string
}

// Also is another object that is written in the same transaction, if it is still at the revision it was read at.
type Also struct {
	Was  *cache.Entry
	Next kinds.Object
}

// Lookup reads the cluster's state.
type Lookup interface {
	// Find reads one object; ok is false only when the store itself does not have it.
	Find(ctx context.Context, t *kinds.Type, namespace, name string) (e *cache.Entry, ok bool, err error)
	// Await is Find that gives a missing object a moment to appear.
	Await(ctx context.Context, t *kinds.Type, namespace, name string) (e *cache.Entry, ok bool, err error)
}

// Require makes the write depend on e being unchanged.
func (r *Request) Require(e *cache.Entry) {
	if !slices.Contains(r.required, e) {
		r.required = append(r.required, e)
	}
}

// Required are the entries that Require was called with.
func (r *Request) Required() []*cache.Entry { return r.required }

// WriteToo makes the write change another object in the same transaction: both happen or neither. It is not carried out
// in a dry run.
func (r *Request) WriteToo(a Also) { r.also = append(r.also, a) }

// Alsos are the writes that WriteToo was called with.
func (r *Request) Alsos() []Also { return r.also }

// Note records an audit annotation.
func (r *Request) Note(key, value string) {
	if r.audit == nil {
		r.audit = map[string]string{}
	}
	r.audit[key] = value
}

// Notes are the audit annotations of all steps so far.
func (r *Request) Notes() map[string]string { return r.audit }

// Step is one plugin. Either function may be nil.
type Step struct {
	Name     string
	Connects bool // asked about connections too
	Mutate   func(context.Context, *Request) error
	Validate func(context.Context, *Request) error
}

// Chain is the steps in the order in which they run.
type Chain []Step

// Mutate runs the first half. When a webhook or policy changed the object, it runs once more, so that steps that came before
// see the change; no more than that, whatever the webhooks do: two that undo each other's work must not hold a request.
func (c Chain) Mutate(ctx context.Context, r *Request) error {
	r.again, r.changed = false, false
	if err := c.mutate(ctx, r); err != nil || !r.changed {
		return err
	}
	r.again = true
	return c.mutate(ctx, r)
}

func (c Chain) mutate(ctx context.Context, r *Request) error {
	for _, s := range c {
		if s.Mutate == nil {
			continue
		}
		if err := s.Mutate(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// Connect asks the steps that judge connections.
func (c Chain) Connect(ctx context.Context, r *Request) error {
	var asked Chain
	for _, s := range c {
		if s.Connects {
			asked = append(asked, s)
		}
	}
	if err := asked.mutate(ctx, r); err != nil {
		return err
	}
	return asked.Validate(ctx, r)
}

// Validate runs the second half.
func (c Chain) Validate(ctx context.Context, r *Request) error {
	for _, s := range c {
		if s.Validate == nil {
			continue
		}
		if err := s.Validate(ctx, r); err != nil {
			return err
		}
	}
	return nil
}
