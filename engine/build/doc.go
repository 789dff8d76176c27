// SPDX-License-Identifier: Apache-2.0

// Package build turns a Dockerfile and a context into an image: Compile makes a graph, a Builder executes it.
//
// Compile is pure: Dockerfile text, build arguments and target in; stages of steps, in order and with their faults, out.
// The Builder walks the graph, asks the cache before each step, and lets one snapshot after the other become a layer of
// the image store. Commands run through the Runner its maker gives it; it knows no containers itself.
//
// It owns Config.Dir/cache (one small file per finished step, docs/formats/engine-image.md). It does not own images: each
// step's result is an image of the store marked Cache, removed there like any other.
//
// Invariants: nothing outside the context, the named stages and the rootfs being built is ever read or written, whatever
// symbolic links the context or the base image hold; a failed build tags nothing. No goroutines beyond a running Build.
package build
