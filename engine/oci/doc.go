// SPDX-License-Identifier: Apache-2.0

// Package oci turns an OCI bundle into a process in its namespaces: the low-level runtime, as a library.
//
// Runtime has the verbs of the OCI runtime command line: Create, Start, State, Kill, Delete, Exec, List. What a container
// is made of is decided by a pure function (Steps: spec and facts to mkdir, mount, mknod, mask, pivot …) and done by
// a second process, init, which is this same program executed in the new namespaces (Init). The two talk as drawn in
// protocol.go. It knows bundles, not images; file systems are mounted by whoever makes the bundle.
//
// What an image contains is hostile. Every target is opened below the root file system with openat2(RESOLVE_IN_ROOT), and
// mounts are made detached and then put on that very descriptor (fsmount, open_tree, move_mount), so no name is looked up twice and
// no symlink redirects. Device nodes for masking come from the host and are checked. Init runs from a
// read-only clone of the binary's mount, so /proc/self/exe cannot be overwritten. All this needs Linux 5.12.
//
// In a user namespace of its own the container's root cannot walk to anything on the host: the parent opens the root file system and the
// bind sources and maps the ids of mounts (trees.go). User and time namespaces are entered between fork and exec (fork.go), as only
// a process of one thread may.
//
// Files, in Runtime.Root/<id> (0700):
//
//	state.json  what later verbs need to know, version 1
//	start.sock  the gate: init accepts one connection here and then executes the program; gone once started
//
// Invariants: a failed Create leaves nothing; a process never runs the user's program outside its cgroup; every
// descriptor above 2 that was not asked for is closed on exec. Create and Exec start processes from a thread of their own, which
// joins the cgroup and namespaces first and ends afterwards. Nothing runs in the background.
package oci
