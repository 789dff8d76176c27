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
// It owns the queues and their workers; it keeps no object. Objects inside snapshots and plans are shared and read-only.
//
// A pass that failed is tried again after 5 ms, doubling up to 1000 s; one that succeeded starts over at 5 ms. Goroutines:
// Run has one that reads the watch, and while there is work up to Workers for each controller. Files: plan.go (what can be
// done), controller.go (what a controller is), loop.go (the loop), queue.go, apply.go.
package reconcile
