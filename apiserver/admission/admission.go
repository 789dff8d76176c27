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
)

// Request is one write.
type Request struct {
	User        auth.User
	Verb        Verb
	Type        *kinds.Type
	Namespace   string
	Name        string // "" when it will be generated
	Subresource string
	Object      kinds.Object // what will be stored, or the subresource's own kind; steps may change it. Nil for Delete
	Old         kinds.Object // what is stored; shared, read-only. Nil for Create
	DryRun      bool
	Warn        func(string) // tells the client, beside the answer
	Lookup      Lookup

	required []*cache.Entry
}

// Lookup reads the cluster's state.
type Lookup interface {
	// Find reads one object; ok is false only when the store itself does not have it.
	Find(ctx context.Context, t *kinds.Type, namespace, name string) (e *cache.Entry, ok bool, err error)
	// Await is Find that gives a missing object a moment to appear.
	Await(ctx context.Context, t *kinds.Type, namespace, name string) (e *cache.Entry, ok bool, err error)
}

// Require makes the write depend on e being unchanged.
func (r *Request) Require(e *cache.Entry) { r.required = append(r.required, e) }

// Required are the entries that Require was called with.
func (r *Request) Required() []*cache.Entry { return r.required }

// Step is one plugin. Either function may be nil.
type Step struct {
	Name     string
	Mutate   func(context.Context, *Request) error
	Validate func(context.Context, *Request) error
}

// Chain is the steps in the order in which they run.
type Chain []Step

// Steps are all steps of Knarr. The order matters:
//   - NamespaceLifecycle first: nothing else need look at a write that has no place to go.
//   - ServiceAccount before anything that looks at volumes.
//   - DefaultTolerationSeconds after all that may add tolerations.
//   - NodeRestriction and RBACEscalation judge the final object.
func Steps(z *auth.Authorizer) Chain {
	return Chain{
		namespaceLifecycle(),
		serviceAccount(),
		defaultTolerationSeconds(),
		nodeRestriction(),
		noEscalation(z),
	}
}

// Mutate runs the first half.
func (c Chain) Mutate(ctx context.Context, r *Request) error {
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
