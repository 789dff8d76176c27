// SPDX-License-Identifier: Apache-2.0

// Package container is a container's life: create, start, stop, exec, attach, logs, events, copy, commit, removal; the
// sandboxes that pods share; and the steps of builds.
//
// It joins the parts below it: image (root file systems), network, volume, cgroup, oci and shim (processes). What a container
// is made of is decided by pure functions (merge, planMounts, Bundle, decideRestart); the rest does it. It knows nothing of
// Docker's wire format, CRI or Kubernetes, and does not choose networks' addresses, pull images or limit itself.
//
// Files (docs/formats/engine-container.md): <Dir>/containers/<id>/ and <Dir>/sandboxes/<id>/ are durable and say what there
// is; <RunDir>/containers/<id>/, …/sandboxes/<id>/, …/steps/<key>/ hold mounts, pinned namespaces and monitors, and go with
// a reboot. A sandbox has no process, unless its containers share a PID namespace.
//
// Invariants: a container exists exactly when its container.json does; that a program runs is on disk before it runs, and how
// it ended before the monitor's own record goes; each step of a clean-up may be done again; what a crash leaves is
// finished or undone by the next Open; no name from a container or image is resolved by the host's rules (inroot).
//
// Locks: entry.op serialises what passes a container from one state to another, entry.mu guards its fields for moments,
// Engine.mu the tables. op before mu; Engine.mu before entry.mu.
//
// Goroutines: one per running container waits for its exit, one more if it has a health check, one reads inotify while logs
// are followed; all end with Close. Run performs restarts and auto-removal. Threads that change namespaces end with their task.
package container
