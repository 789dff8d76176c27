// SPDX-License-Identifier: Apache-2.0

// Package cgroup makes control groups, puts limits on them, reads their use and ends what runs in them, on cgroup v1, v2
// and the hybrid of both.
//
// Detect reads from the kernel's mount table which hierarchies there are; nothing is assumed. A Cgroup is one path, such as
// /knarr/pods/<uid>/<container>, in every hierarchy at once. On a hybrid machine limits go to the v1 controllers, and the
// v2 tree holds the same path because only v2 can kill a group atomically.
//
// Limits are decided by a pure function (Plan: resources to file writes) and written by a thin one (Apply).
//
// A process enters its group without ever being outside of it while it is the user's: the thread that will fork it joins
// first (JoinThread, v1) or the clone call names the group (UnifiedFD, v2). Both spare the kernel's global
// cgroup_threadgroup_rwsem, whose write side costs an RCU grace period: moving a pid by cgroup.procs takes 5-15 ms
// on an idle machine, joining by thread 0.1 ms.
//
// The package starts no goroutine and keeps no state of its own: the kernel's files are the state. It does not know
// containers or pods; whoever makes a path deletes it.
package cgroup
