// SPDX-License-Identifier: Apache-2.0

// Package lifecycle decides what happens to a pod on its node: Decide answers the next actions, Status what to report.
//
// Both are pure functions of State, which the kubelet's worker observes: the API object, the sandbox and the containers as
// the runtime lists them, and the little that only the worker knows (stops begun, pulls running, probe results). Restart
// counts, back-off delays and what has been initialised are read off the containers' labels and sandboxes, never kept in
// memory, so a kubelet that starts finds them again.
//
// Invariants: applied over and over, Decide ends in an empty plan or waits for Again or an event; it never starts a
// container beside a live one of the same name; it never starts one for a pod that is deleted, finished or out of time.
//
// No I/O, no clock, no goroutine. The kubelet applies; podspec says what a container looks like.
//
//	MakeDir → MountVolumes → EnsureSandbox → init containers, one after the other → containers → …
//	… → stop: preStop, stop signal, SIGKILL → RemoveSandbox → UnmountVolumes → DeleteObject → RemoveContainer, RemoveDir
package lifecycle

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/kubelet/podruntime"
)

// State is all that Decide and Status may look at. Its objects are shared and read-only.
type State struct {
	UID             types.UID
	Namespace, Name string
	// Pod is the API object with the newest status known; nil: it is gone, or bound to another node.
	Pod        *corev1.Pod
	Sandbox    *podruntime.Sandbox // the newest of the pod's
	Old        []podruntime.Sandbox
	Containers []podruntime.Container // any order
	Memory
	NodeIPs []string
	Now     time.Time
}

// Memory is what the worker remembers between passes. Nil maps are empty.
type Memory struct {
	HasDir      bool // the pod's folder exists
	Volumes     Volumes
	Pulls       map[string]Pull   // by container name: of the newest attempt
	Stops       map[string]Stop   // by container ID
	Hooks       map[string]Hook   // by container ID: postStart
	Probes      map[string]Probes // by container ID
	Messages    map[string]string // by container ID: termination messages
	Faults      map[string]Fault  // by container name: why the last creation failed; "" is the sandbox
	Announced   map[string]bool   // keys of Event
	Rejected    *Rejection        // by the node's admission
	FirstSeen   time.Time         // when the worker began with it
	DefaultWait time.Duration     // stop grace of containers whose pod is not known
}

// Volumes is how far the pod's volumes are.
type Volumes struct {
	Mounted bool      // all are set up, or the pod has none
	Stale   bool      // set them up again: a source changed or a token is due
	Any     bool      // something of them is on disk
	Fault   *Fault    // the last attempt failed
	Again   time.Time // a token must be renewed then; zero: never
}

// Pull is one attempt to have a container's image on the node.
type Pull struct {
	Image   string
	Attempt int // of the container
	Running bool
	ImageID string        // "": it must be pulled
	Fault   *Fault        // the last try failed
	Backoff time.Duration // before the next try, should this one fail
}

// Stop is a container's way to its end.
type Stop struct {
	Since       time.Time
	Grace       time.Duration
	HookStarted bool
	HookDone    bool
	Signalled   time.Time
	Killed      bool
}

// Hook is a postStart hook: from the start of the container on until it is done.
type Hook struct {
	Done  bool
	Error string
}

// Probes are the results so far. The zero value is: nothing known yet.
type Probes struct {
	Ready   bool
	Started bool
	Failed  string // "Liveness" or "Startup": the container must be restarted
}

// Fault is a failure, with when to try again.
type Fault struct {
	Reason, Message string
	At, Retry       time.Time
}

// Rejection is why this node does not run a pod that is bound to it.
type Rejection struct{ Reason, Message string }

// Kind says which of the pod's lists a container is in.
type Kind string

// The lists.
const (
	Init      Kind = "init"
	Main      Kind = "container"
	Ephemeral Kind = "ephemeral"
)
