// SPDX-License-Identifier: Apache-2.0

// Package conformance runs the Kubernetes conformance tests against a cluster of two nodes. It is a Go module of its own, for it needs
// all of Kubernetes.
//
// It owns nothing of the system: it builds the tests, starts knarrd in network namespaces of its own, makes the images the
// tests want, runs them and prints what passed, by area. No invariants; goroutines end with the command.
package conformance
