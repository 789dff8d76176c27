// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/knarr/knarr/internal/errs"
)

// Full is wrapped by the error of a write that was refused because the store has no room for more. Reads and deletions go on.
var Full = errs.New(errs.TooLarge, "the store is full") //nolint:staticcheck // named as the kinds of errs are

type freeing struct{}

// Freeing marks what is written under ctx as a step towards a deletion, or as one of the few small writes that a cluster
// lives by: it may use the room that is kept back from others.
func Freeing(ctx context.Context) context.Context { return context.WithValue(ctx, freeing{}, true) }

// IsFreeing: ctx came from Freeing.
func IsFreeing(ctx context.Context) bool { return ctx.Value(freeing{}) != nil }
