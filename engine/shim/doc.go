// SPDX-License-Identifier: Apache-2.0

// Package shim starts and talks to the monitor: one small process that stays with one container, so that the
// container outlives the daemon.
//
// The monitor is `knarr-shim monitor`. It is the parent of the container's first process: it holds the other ends of its
// standard streams, copies them to the log and to whoever is attached, reaps it and every stray, and writes its exit to
// its file before it tells anyone. The daemon is only a client of it, over a socket in the container's run directory.
//
//	Launch.Start ──fork──▶ monitor ──clone──▶ init (namespaces, mounts …, waits at the gate)   "created"
//	Client.Start ────────▶ monitor ──opens the gate──▶ init executes the user's program        "running"
//	Client.Wait  ◀──exit── monitor ◀──reaps── init;  exit.json is on disk first                "exited"
//	Client.Shutdown ─────▶ monitor removes the runtime's state and the cgroup, and leaves      gone
//
// Both sides of the protocol are here, the messages in protocol.go. The daemon's side is Launch, Dial and Client; the
// monitor's side is Monitor. What a container is made of (namespaces, mounts …) belongs to package oci, its limits to cgroup;
// this package neither mounts the root file system nor knows images, names or networks.
//
// Files, all in Launch.Dir (0700, owned by the caller, who removes it when the container is removed):
//
//	shim.sock   the control socket; a peer must be root
//	shim.pid    pid and start time of the monitor
//	state/      the runtime's state directory of this container (see package oci)
//	exit.json   the exit record, version 1; written once, never changed
//
// Invariants: the monitor holds no descriptor of whoever started it, is in a session of its own and ignores SIGHUP and
// SIGINT; no reader of streams, however slow, stops the container for longer than a bounded time; after the exit it leaves
// when Shutdown asks it to, or by itself when the last client has gone.
package shim
