// SPDX-License-Identifier: Apache-2.0

// Package backoff says how long to pause before trying again: doubling from First to Max, from First again after success.
//
// It has no state beyond the Pause value, which belongs to one goroutine, and starts nothing.
package backoff

import (
	"context"
	"time"
)

// Pause is a growing pause. First and Max must be set.
type Pause struct {
	First, Max time.Duration
	next       time.Duration
}

// Next is the pause before the next attempt.
func (p *Pause) Next() time.Duration {
	d := max(p.next, p.First)
	p.next = min(2*d, p.Max)
	return min(d, p.Max)
}

// Reset says that an attempt made progress.
func (p *Pause) Reset() { p.next = 0 }

// Wait pauses for Next, or returns ctx's cause when it ends first.
func (p *Pause) Wait(ctx context.Context) error {
	t := time.NewTimer(p.Next())
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
