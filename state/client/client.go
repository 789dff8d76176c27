// SPDX-License-Identifier: Apache-2.0

// Package client is how every component of Knarr writes to and reads from the API: one type, in process or over HTTPS.
//
// Client[T] is typed by the hub Go type; what carries a request is a Doer. The API server is a Doer itself (no socket, no
// encoding, objects shared read-only); HTTP is the other one. Reading in bulk is not done here but in state/cache, which
// ListWatch feeds from an API server over HTTP.
//
// But for ListWatch.Run, which has one goroutine for each kind, it starts none and keeps no state. Files: client.go (the
// contract), typed.go, http.go and path.go (requests over HTTP), status.go (API errors to kinds), listwatch.go and
// stream.go (the cache's source).
package client

import (
	"context"

	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/kinds"
)

// Verb is what a request does; the names are those of authorization.
type Verb string

// The verbs a Doer carries out. Lists and watches are the cache's.
const (
	Get    Verb = "get"
	Create Verb = "create"
	Update Verb = "update"
	Patch  Verb = "patch"
	Delete Verb = "delete"
)

// Request is one operation on one object.
type Request struct {
	Verb        Verb
	Type        *kinds.Type
	Namespace   string
	Name        string       // for Create may be empty with generateName
	Subresource string       // "", "status", "scale", "binding", "eviction", "token", "finalize"
	Object      kinds.Object // Create, Update; for a subresource of another kind, that kind (Binding, TokenRequest, …). Read-only to the Doer
	PatchType   types.PatchType
	Patch       []byte

	// Preconditions of Delete and options of all.
	UID             types.UID
	ResourceVersion string
	GracePeriod     *int64
	Propagation     string // "", "Background", "Foreground", "Orphan"
	DryRun          bool
	FieldManager    string
	Force           bool
}

// Doer carries a request out and returns the object as it is after it; nil where the API answers with a mere Status (a
// binding, a deletion that is complete). Errors wrap internal/errs kinds and, where the API server made them, are
// *apierrors.StatusError too. The returned object is shared: do not write to it.
type Doer interface {
	Do(ctx context.Context, r Request) (kinds.Object, error)
}
