// SPDX-License-Identifier: Apache-2.0

// Package rest is the verbs of the API on objects, below HTTP: get, list, watch, create, update, patch, apply, delete and
// the subresources, for every kind alike.
//
// Reads come from the cache's snapshots; what must be consistent waits until the cache has reached the store's revision.
// Writes read the current object (from the cache, or from the store when the cache was behind), change it, admit and
// validate it, and go to the store in one transaction that demands the revision that was read: a write is decided on
// exactly the state it replaces. Where the client gave no resourceVersion a lost race is decided again; where it did, the
// race is the client's to lose (409).
//
// What must be unique in the cluster (a Service's address and node port) is a key of its own, written in the same
// transaction as its holder (claims.go). So no crash leaves one without the other, and no two writers get the same.
//
// It does not authenticate or authorise; it knows nothing of HTTP but the Status errors that clients see. Objects given in
// are not written to; objects handed out are shared. No goroutines, no files; all methods may be called concurrently.
package rest

import (
	"context"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/knarr/knarr/apiserver/admission"
	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
	"github.com/knarr/knarr/state/store"
)

// Config is what a Core works with. All but Services and Journal must be set.
type Config struct {
	Store    store.Store
	Cache    *cache.Cache
	Steps    admission.Chain
	Tokens   *auth.Authority
	Services Services
	Now      func() time.Time
	Journal  Journal // nil: who wrote what is not noted
}

// Core carries out requests.
type Core struct {
	Config
	log      *slog.Logger
	appliers appliers
}

// New makes a Core; it starts nothing.
func New(cfg Config, log *slog.Logger) *Core { return &Core{Config: cfg, log: log} }

// The verbs that only the edge knows, beside those of client.
const (
	// Apply is server-side apply: Patch is the configuration, as JSON.
	Apply client.Verb = "apply"
)

// Request is one operation on one object, by somebody.
type Request struct {
	client.Request
	User       auth.User
	Version    *kinds.Version // the version that Patch is written in; nil: the hub
	Validation string         // fieldValidation of a patch: "Strict", "Warn", "Ignore"; "" ignores
	Warn       func(string)   // nil: warnings are dropped
	// Tracked: who set which field is noted from the first write on. Components in this process are noted only where
	// somebody else has been before: what they alone write would double in size, for nobody.
	Tracked bool
}

// Answer is what a request came to.
type Answer struct {
	// Object is the object after the operation, of the hub version or of the subresource's kind; shared.
	Object runtime.Object
	// Entry, when not nil, is Object with its cached encodings.
	Entry   *cache.Entry
	Created bool // it did not exist before
	Deleted bool // it does not exist any more; Object is its last state
}

// Do carries a request out. Errors are *apierrors.StatusError and wrap a kind of errs.
func (c *Core) Do(ctx context.Context, r Request) (Answer, error) {
	if r.Version == nil {
		r.Version = &r.Type.Served[0]
	}
	if r.Warn == nil {
		r.Warn = func(string) {}
	}
	if r.Type.Cluster {
		r.Namespace = ""
	}
	a, err := c.do(ctx, &r)
	if err != nil {
		return Answer{}, Status(err)
	}
	return a, nil
}

func (c *Core) do(ctx context.Context, r *Request) (Answer, error) {
	if r.Subresource != "" && r.Subresource != "status" {
		return c.subresource(ctx, r)
	}
	if r.Subresource == "status" && !r.Type.HasStatus {
		return Answer{}, notFound(r)
	}
	switch r.Verb {
	case client.Get:
		e, err := c.get(ctx, r)
		if err == nil {
			e, err = c.inVersion(ctx, r.Type, e)
		}
		if err != nil {
			return Answer{}, err
		}
		return Answer{Object: e.Object, Entry: e}, nil
	case client.Create:
		if r.Subresource == "" {
			return c.create(ctx, r)
		}
	case client.Update:
		return c.update(ctx, r)
	case client.Patch:
		return c.patch(ctx, r)
	case Apply:
		return c.apply(ctx, r)
	case client.Delete:
		if r.Subresource == "" {
			return c.delete(ctx, r)
		}
	}
	return Answer{}, methodNotSupported(r)
}
