// SPDX-License-Identifier: Apache-2.0

package container

import (
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/knarr/knarr/engine/shim"
)

// entry is one container in memory.
//
// op is held while the container passes from one state to another: start, clean-up after the exit, rename, update, removal.
// mu guards the fields below it, is held for moments only, and may be taken while op is held, never the other way round.
type entry struct {
	id  string
	dir string // durable folder
	run string // folder in the run directory: monitor, bundle, root file system

	op sync.Mutex

	mu      sync.Mutex
	rec     record // its maps and slices are replaced, never changed
	st      status
	client  *shim.Client  // while a monitor is known
	ended   chan struct{} // closed when the present run is over and cleaned up; nil when none is
	exits   *exitWait     // of the next exit
	gone    *exitWait     // of the removal
	pending []*pendingAttach
	restart chan struct{} // closing it calls a waiting restart off; nil when none waits
	execs   map[string]*execution
	health  *healthState
	oomTold int // number of the last OOM of this run that was published
}

// exitWait is one future exit: exit is set before ch is closed.
type exitWait struct {
	ch   chan struct{}
	exit Exit
}

func newExitWait() *exitWait { return &exitWait{ch: make(chan struct{})} }

func newEntry(id, dir, run string) *entry {
	return &entry{id: id, dir: dir, run: run, exits: newExitWait(), gone: newExitWait(), execs: map[string]*execution{}}
}

func (c *entry) rootfs() string { return filepath.Join(c.run, "rootfs") }
func (c *entry) netns() string  { return filepath.Join(c.run, "netns") }
func (c *entry) shm() string    { return filepath.Join(c.run, "shm") }
func (c *entry) key() string    { return snapshotPrefix + c.id }
func (c *entry) record() record { c.mu.Lock(); defer c.mu.Unlock(); return c.rec }
func (c *entry) status() status { c.mu.Lock(); defer c.mu.Unlock(); return c.st }
func (c *entry) short() string  { return c.id[:min(12, len(c.id))] }
func (s *status) running() bool { return s.State == Running || s.State == Paused }
func (c *entry) live() *shim.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.st.running() {
		return nil
	}
	return c.client
}

// snapshotPrefix sets containers' snapshots apart from those of builds in the image store.
const snapshotPrefix = "container-"

// view makes the value that callers get.
func (c *entry) view() Container {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, s := c.rec, c.st
	v := Container{
		ID: c.id, Spec: r.Spec, ImageID: string(r.ImageID), ImageRef: r.Spec.Image, Config: r.Config, Args: r.Args,
		Created: r.Created, State: s.State, StartedAt: s.StartedAt, FinishedAt: s.FinishedAt, ExitCode: s.ExitCode,
		Signal: s.Signal, StopSignal: r.StopSignal, OOMKilled: s.OOMKilled, Error: s.Error, RestartCount: s.Restarts,
		LogPath: r.LogPath, Rootfs: c.rootfs(), NetnsPath: s.Netns, Endpoints: maps.Clone(s.Endpoints), MountPoints: r.Mounts,
		Health: c.health.view(), Networks: maps.Clone(r.Networks),
	}
	if main := mainNetwork(r); r.Spec.Sandbox == "" && main != "" {
		if v.Networks == nil {
			v.Networks = map[string]NetworkSpec{}
		}
		v.Networks[main] = r.Spec.Network
	}
	for _, id := range slices.Sorted(maps.Keys(c.execs)) {
		if !c.execs[id].gone.Load() {
			v.ExecIDs = append(v.ExecIDs, id)
		}
	}
	if s.running() {
		v.Pid = s.Pid
	}
	if r.Spec.Sandbox == "" {
		v.HostsPath = filepath.Join(c.dir, "hosts")
		v.ResolvConfPath = filepath.Join(c.dir, "resolv.conf")
		v.HostnamePath = filepath.Join(c.dir, "hostname")
	}
	return v
}

func (s *status) exit() Exit {
	return Exit{Code: s.ExitCode, Signal: s.Signal, OOMKilled: s.OOMKilled, StartedAt: s.StartedAt, ExitedAt: s.FinishedAt, Error: s.Error}
}

// set changes the status in memory.
func (c *entry) set(change func(*status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.st)
}

// saveStatus puts the status on disk.
func (c *entry) saveStatus() error {
	c.mu.Lock()
	st, lasting := c.st, c.rec.lasting()
	c.mu.Unlock()
	st.Version = formatVersion
	return save(c.dir, statusFile, st, lasting)
}
