// SPDX-License-Identifier: Apache-2.0

package kinds

import "time"

// Pure is the context of validation by a library that asks for one. Validation waits for nothing and is bounded by the size
// of what it judges (CEL rules by their cost budget), so there is nothing to end early and nothing to carry along.
type Pure struct{}

// Deadline is none.
func (Pure) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done is never closed.
func (Pure) Done() <-chan struct{} { return nil }

// Err is nil.
func (Pure) Err() error { return nil }

// Value is nil.
func (Pure) Value(any) any { return nil }
