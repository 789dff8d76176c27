// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/shim"
	"github.com/knarr/knarr/internal/errs"
)

// unknownExit is the code of a run whose end nobody saw: Docker's.
const unknownExit = 255

// finish takes the end of a run: cleans up, records it, tells who waits, and asks the restart policy. op is held. waitErr says
// that the monitor is gone without telling.
func (e *Engine) finish(ctx context.Context, c *entry, exit shim.Exit, waitErr error) {
	why := ""
	if waitErr != nil {
		var known bool
		var err error
		if exit, known, err = shim.ReadExit(c.run); err != nil || !known {
			exit = shim.Exit{Code: unknownExit, ExitedAt: time.Now()}
			why = "the container's monitor is gone; how the container ended is not known"
		}
	}
	if err := e.conclude(ctx, c, exit, why, true); err != nil {
		e.log.Error("clean up after exit", "container", c.id, "err", err)
	}
}

// conclude puts the end of a run on disk, takes the run apart, and then tells everybody. In this order a crash in between
// loses no exit code: the monitor's record goes with the run folder, and by then ours is written. With policy it is also
// asked what follows. The error is that of the clean-up alone; what it left is tried again at the next start or Open.
func (e *Engine) conclude(ctx context.Context, c *entry, exit shim.Exit, why string, policy bool) error {
	before := c.status()
	follow := e.settle(c, policy, func(s *status) {
		s.ExitCode, s.Signal, s.OOMKilled, s.Error, s.FinishedAt = exit.Code, exit.Signal, exit.OOMKilled, why, exit.ExitedAt
	})
	err := e.dismantle(ctx, c)
	if exit.OOMKilled {
		e.outOfMemory(c, exit.OOM)
	}
	st := c.status()
	ran := max(0, st.FinishedAt.Sub(st.StartedAt))
	e.emit(c, "die", map[string]string{"exitCode": strconv.Itoa(exit.Code), "execDuration": strconv.Itoa(int(ran.Seconds()))})
	e.emitPlaces(c, false, before.Endpoints)
	c.announceExit()
	follow()
	return err
}

// outOfMemory tells, once, that the kernel killed a process of the container, and which one if that is known.
func (e *Engine) outOfMemory(c *entry, o *shim.OOM) {
	more := map[string]string{}
	if o != nil {
		c.mu.Lock()
		told := o.Seq <= c.oomTold
		c.oomTold = o.Seq
		c.mu.Unlock()
		if told {
			return
		}
		if o.Name != "" {
			more["process"], more["pid"] = o.Name, strconv.Itoa(o.Pid)
		}
	}
	e.emit(c, "oom", more)
}

// announceExit wakes those who wait for an exit or for the present run's end.
func (c *entry) announceExit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.client = nil
	c.exits.exit = c.st.exit()
	close(c.exits.ch)
	c.exits = newExitWait()
	if c.ended != nil {
		close(c.ended)
		c.ended = nil
	}
}

// settle ends a run in memory and on disk. Whether the container rests or waits for a restart is decided in the same moment,
// so that nobody sees it rest in between; follow then queues what was decided. op is held.
func (e *Engine) settle(c *entry, policy bool, change func(*status)) (follow func()) {
	follow = func() {}
	c.mu.Lock()
	s := &c.st
	s.State, s.Pid, s.Netns, s.Endpoints = Exited, 0, "", nil
	change(s)
	if policy {
		if t, any := c.decide(); any {
			follow = func() { e.tasks.add(t) }
		}
	}
	c.mu.Unlock()
	if err := c.saveStatus(); err != nil {
		e.log.Error("save state", "container", c.id, "err", err)
	}
	return follow
}

// decide asks the policies what follows an exit; mu is held.
func (c *entry) decide() (t task, any bool) {
	s := &c.st
	again, after := decideRestart(ended{policy: c.rec.Spec.Restart, code: s.ExitCode, ran: s.FinishedAt.Sub(s.StartedAt),
		stopped: s.Stopped, count: s.Restarts, backoff: s.Backoff})
	if again {
		s.State, s.Backoff = Restarting, after
		c.restart = make(chan struct{})
		return task{c: c, after: after, off: c.restart}, true
	}
	return task{c: c, remove: true}, c.rec.Spec.AutoRemove
}

// dismantle undoes what a start made: monitor, network, mounts, cgroup, run folder. All steps are idempotent and all are tried.
// op is held.
func (e *Engine) dismantle(ctx context.Context, c *entry) error {
	c.mu.Lock()
	client, rec, st := c.client, c.rec, c.st
	execs := c.execs
	c.client, c.execs = nil, map[string]*execution{}
	c.mu.Unlock()
	e.stopHealth(c)
	e.forgetExecs(execs)
	var all []error
	try := func(what string, err error) {
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", what, err))
		}
	}
	try("end the monitor", e.endMonitor(ctx, c, client, st, rec))
	if rec.Spec.Sandbox == "" {
		// In this order the kernel takes the links down with the namespace, in the background and several at once; deleting a
		// link of a live namespace waits for it, 10 to 20 ms.
		try("remove the network namespace", e.cfg.Networks.RemoveNamespace(c.netns()))
		try("leave the networks", e.cfg.Networks.DetachAll(ctx, c.id))
	}
	if exists(c.rootfs()) {
		try("unmount the root file system", e.cfg.Images.Unmount(c.rootfs()))
	}
	try("take the volumes away", e.unstageMounts(c, rec))
	if exists(c.shm()) {
		try("unmount shared memory", unmount(c.shm()))
	}
	if len(all) == 0 {
		try("remove the run folder", removeRun(c.run))
	}
	return errors.Join(all...)
}

// endMonitor ends the monitor and all processes. Without a connection it looks for one: a crash may have left it.
func (e *Engine) endMonitor(ctx context.Context, c *entry, client *shim.Client, st status, rec record) error {
	if client == nil && exists(c.run) {
		found, err := shim.Dial(ctx, c.run)
		if err != nil && !errors.Is(err, errs.NotFound) {
			return err
		}
		client = found
	}
	if client == nil {
		return e.killGroup(c, st, rec)
	}
	err := endClient(ctx, client) // after a failed start, or as a leftover, it may still be alive
	if err != nil {
		return errors.Join(err, e.killGroup(c, st, rec))
	}
	return nil
}

// killGroup ends what runs in a container's cgroup, and removes that, when no monitor is there to do it.
func (e *Engine) killGroup(c *entry, st status, rec record) error {
	path := st.Cgroup
	if path == "" {
		parent, err := e.cgroupParent(rec)
		if err != nil {
			return nil // its sandbox, and with it the group, is gone
		}
		path = parent + "/" + c.id
	}
	g, err := e.layout.Open(path)
	if err != nil {
		return err
	}
	if err := g.Kill(); err != nil {
		return err
	}
	return g.Delete()
}

func unmount(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// removeRun removes a run folder. Mount points in it are only ever removed empty: were something still mounted there, a
// recursive removal would empty that.
func removeRun(run string) error {
	var all []error
	for _, name := range names(run) {
		remove := os.Remove
		if name == "state" { // the runtime's, if its monitor was killed
			remove = os.RemoveAll
		}
		if err := remove(filepath.Join(run, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = append(all, err)
		}
	}
	if err := os.Remove(run); err != nil && !errors.Is(err, fs.ErrNotExist) {
		all = append(all, err)
	}
	return errors.Join(all...)
}
