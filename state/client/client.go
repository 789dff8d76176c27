// SPDX-License-Identifier: Apache-2.0

// Package client is how every component of Knarr writes to and reads from the API: one type, in process or over HTTPS.
//
// Client[T] is typed by the hub Go type; what carries a request is a Doer. The API server is a Doer itself (no socket, no
// encoding, objects shared read-only); HTTP is the other one. Reading in bulk is not done here but in state/cache.
//
// It keeps no state and starts no goroutine.
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
	Subresource string       // "", "status", "scale", "binding", "eviction", "token"
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

// Doer carries a request out and returns the object as it is after it. Errors wrap internal/errs kinds and, where the API
// server made them, are *apierrors.StatusError too. The returned object is shared: do not write to it.
type Doer interface {
	Do(ctx context.Context, r Request) (kinds.Object, error)
}
