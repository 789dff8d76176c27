// SPDX-License-Identifier: Apache-2.0

package podruntime

import (
	"io"
	"net/netip"
	"time"
)

// Sandbox is a view of one sandbox.
type Sandbox struct {
	ID      string
	Labels  map[string]string
	IPs     []netip.Addr // none with HostNetwork
	Created time.Time
	Ready   bool // its namespaces exist
}

// Image is a view of one image.
type Image struct {
	ID         string   // "sha256:…"
	Names      []string // "docker.io/library/web:latest"
	Digests    []string // "docker.io/library/web@sha256:…"
	Size       int64    // bytes
	User       string   // of its config
	StopSignal string
	// Local: it was built, loaded or committed here, so that its origin is this store and not a registry.
	Local bool
}

// State of a container.
type State string

// The life of a container.
const (
	Created State = "created"
	Running State = "running"
	Exited  State = "exited"
)

// Container is a view of one container.
type Container struct {
	ID                             string
	Name                           string
	Sandbox                        string
	ImageID, ImageRef              string
	Labels                         map[string]string
	State                          State
	Pid                            int
	Created, StartedAt, FinishedAt time.Time
	ExitCode                       int
	Signal                         int // that killed it, 0: none or not known
	OOMKilled                      bool
	Error                          string // why the start failed
	LogPath                        string
}

// EventType is what happened.
type EventType string

// The events. More may be sent; others are looked at like Changed.
const (
	Subscribed EventType = "subscribed"
	Started    EventType = "started"
	Died       EventType = "died"
	Changed    EventType = "changed"
)

// Event is one thing that happened to a container or sandbox.
type Event struct {
	Type   EventType
	PodUID string // from the label; "" with Subscribed
	ID     string
}

// LogLine is one line, or the part of a very long one, as the container wrote it.
type LogLine struct {
	Time    time.Time
	Stream  string // "stdout", "stderr"
	Partial bool   // the line goes on in the next
	Data    []byte // with its newline, unless Partial
}

// Stdio connects a caller with a process; nil members are not connected. With a terminal, Stdout carries all.
type Stdio struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan Size
}

// Size of a terminal in character cells.
type Size struct{ Cols, Rows uint16 }

// ContainerStats are counters and gauges of one container.
type ContainerStats struct {
	Time                                     time.Time
	CPUNanos                                 uint64 // used since its start
	MemoryUsage, MemoryWorkingSet, MemoryRSS uint64 // bytes
	PageFaults, MajorPageFaults              uint64
	Pids                                     uint64
	RootfsBytes, RootfsInodes                uint64 // of the read-write layer
}

// SandboxStats are counters of what a pod shares.
type SandboxStats struct {
	Time                                               time.Time
	Interface                                          string
	RxBytes, RxErrors, TxBytes, TxErrors               uint64
	CPUNanos, MemoryUsage, MemoryWorkingSet, MemoryRSS uint64 // of the whole pod cgroup; 0 when not known
	Pids                                               uint64
}
