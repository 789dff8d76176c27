// SPDX-License-Identifier: Apache-2.0

// Package daemon is the composition root: configuration, roles, and Run, the only code that knows everybody.
//
// Run reads as the wiring diagram: constructors top to bottom in dependency order, then one group of Runs, closed in
// reverse. The engine and the cluster half know nothing of each other; the adapters between them live here (runtime.go: the
// kubelet's Runtime on engine/container; sources.go: proxy and dns on the cache).
//
// It owns the instance's lock and pid file (<run-dir>/knarrd.pid) and the admin kubeconfig. Everything else on disk belongs
// to the packages it opens, below <data-dir>/{engine,etcd,pki,kubelet} and <run-dir>; docs/formats/layout.md lists it.
//
// A daemon that ends, cleanly or not, leaves its containers running; the next one takes them over. StopAll is the other verb.
package daemon
