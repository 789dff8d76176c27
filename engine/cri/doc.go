// SPDX-License-Identifier: Apache-2.0

// Package cri serves the Kubernetes Container Runtime Interface, version v1, on the engine: what a kubelet, or crictl, asks of
// a runtime over gRPC.
//
// It translates: a pod sandbox is an engine sandbox, a container an engine container in it, an image an image of the store. What
// the engine has no place for (metadata, labels, annotations, the options asked for) is kept with the sandbox or container as
// its Request, and answered from there; so all of it survives the daemon, and only what was made here is seen here.
// It owns no state beyond that and the short-lived tokens of streams; it makes no decision of the engine's or the kubelet's.
//
// An option that cannot be honoured is refused by name, never dropped: an unknown security profile, a user namespace, an image
// as a volume. Checkpoints are not offered.
//
// Files: one for each noun of the interface (sandbox.go, container.go, images.go, stats.go, metrics.go, events.go, stream.go),
// and beside it, pure, what makes an engine's spec of a request (sandboxspec.go, containerspec.go, security.go).
//
// Goroutines: those of gRPC and of the HTTP server for streams; all end with Run.
package cri
