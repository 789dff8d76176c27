// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/knarr/knarr/engine/shim"
	"github.com/knarr/knarr/internal/errs"
)

// StartError says that the runtime could not execute the container's program.
type StartError struct {
	Code int // 127: not found; 126: found, but not executable; 128: anything else
	Err  error
}

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// startError gives a failed start the exit code that a shell would.
func startError(err error) *StartError {
	code := 128
	switch {
	case errors.Is(err, errs.NotFound):
		code = 127
	case errors.Is(err, errs.Denied):
		code = 126
	}
	return &StartError{Code: code, Err: err}
}

// Start starts a created or exited container; a running one is left alone (no error). When the program cannot be executed
// the error is a StartError, and the container has its code.
func (e *Engine) Start(ctx context.Context, ref string) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	switch st := c.status(); st.State {
	case Running:
		return nil
	case Paused:
		return errs.New(errs.Conflict, "cannot start a paused container, try unpause instead")
	case Removing, Dead:
		return errs.New(errs.Conflict, "container %s is marked for removal and cannot be started", c.id)
	}
	c.callOff()
	c.set(func(s *status) { s.Restarts, s.Backoff, s.Stopped = 0, 0, false })
	return e.start(ctx, c, false)
}

// start makes a run; op is held. On error nothing of the run is left, and the container is exited, or created as before if it
// never ran and is in no sandbox; with policy the restart policy may try again.
func (e *Engine) start(ctx context.Context, c *entry, policy bool) error {
	if e.isClosed() {
		return errs.New(errs.Unavailable, "the engine is closing")
	}
	err := e.launch(ctx, c)
	if err == nil {
		return nil
	}
	fail := startError(err)
	c.failPending(fail)
	if cerr := e.dismantle(context.WithoutCancel(ctx), c); cerr != nil {
		e.log.Error("clean up after a failed start", "container", c.id, "err", cerr)
	}
	now := time.Now()
	follow := e.settle(c, policy, func(s *status) {
		s.Signal, s.OOMKilled, s.ExitCode, s.Error = 0, false, fail.Code, fail.Error()
		if fresh := s.StartedAt.IsZero() && c.rec.Spec.Sandbox == ""; fresh && !policy {
			s.State = Created // what never ran is no more than created, as with Docker
		} else {
			s.StartedAt, s.FinishedAt = now, now
		}
	})
	c.announceExit()
	follow()
	if !policy && c.record().Spec.AutoRemove { // as Docker does: what never ran is not kept either
		e.tasks.add(task{c: c, remove: true})
	}
	return fail
}

// launch does the steps of a start in order; whatever was done when one fails is undone by dismantle.
func (e *Engine) launch(ctx context.Context, c *entry) error {
	rec := c.record()
	if exists(c.run) { // a clean-up that failed
		if err := e.dismantle(ctx, c); err != nil {
			return err
		}
	}
	for _, dir := range []string{c.run, c.rootfs()} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	monitor, err := shim.Launch{
		Binary: e.cfg.ShimBinary, ID: c.id, Dir: c.run, Bundle: c.run, Terminal: rec.Spec.Terminal, Stdin: rec.Spec.OpenStdin,
		Log: shim.Log{Path: rec.LogPath, MaxBytes: rec.Spec.LogMaxBytes, MaxFiles: rec.Spec.LogMaxFiles},
	}.Begin()
	if err != nil {
		return err
	}
	defer monitor.Cancel()
	if err := e.cfg.Images.Mount(c.key(), c.rootfs()); err != nil {
		return err
	}
	if rec.Mounts, err = e.stageMounts(ctx, c, rec); err != nil {
		return err
	}
	place, err := e.connect(ctx, c, rec)
	if err != nil {
		return err
	}
	plan, err := e.plan(c, rec, place)
	if err != nil {
		return err
	}
	policy, err := writeBundle(c.run, plan)
	if err != nil {
		return err
	}
	monitor.Filter(e.profiles.Filter(policy))
	client, err := monitor.Create(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.client = client
	before := c.st
	c.st.State, c.st.Pid, c.st.StartedAt, c.st.FinishedAt = Running, client.Pid(), time.Now(), time.Time{}
	c.st.ExitCode, c.st.Signal, c.st.OOMKilled, c.st.Error = 0, 0, false, ""
	c.st.Cgroup, c.st.Netns, c.st.Endpoints = plan.Cgroup, place.netns, place.endpoints
	c.ended = make(chan struct{})
	c.mu.Unlock()
	if err := e.release(ctx, c, client); err != nil {
		c.set(func(s *status) { *s = before })
		return err
	}
	e.follow(c, client, 0)
	e.emitPlaces(c, true, place.endpoints)
	e.emit(c, "start", nil)
	e.startHealth(c, rec)
	return nil
}

// release lets a created container run. That it runs is on disk first: a crash in between leaves a container that waits at
// the gate, which recovery lets through.
func (e *Engine) release(ctx context.Context, c *entry, client *shim.Client) error {
	if err := c.saveStatus(); err != nil {
		return err
	}
	c.deliverPending(ctx, client)
	return client.Start(ctx)
}

// follow watches a run from a goroutine of its own until it ends or the engine closes. oomsKnown is as for shim.Client.Watch.
func (e *Engine) follow(c *entry, client *shim.Client, oomsKnown int) {
	c.mu.Lock()
	c.oomTold = 0
	c.mu.Unlock()
	e.background(func(ctx context.Context) {
		exit, err := client.Watch(ctx, oomsKnown, func(o shim.OOM) { e.outOfMemory(c, &o) })
		if ctx.Err() != nil {
			return
		}
		c.op.Lock()
		defer c.op.Unlock()
		if c.live() != client { // somebody else found the end first
			return
		}
		e.finish(context.WithoutCancel(ctx), c, exit, err)
	})
}

func (e *Engine) isClosed() bool {
	select {
	case <-e.closing:
		return true
	default:
		return false
	}
}

// callOff cancels a restart that waits for its back-off.
func (c *entry) callOff() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.restart != nil {
		close(c.restart)
		c.restart = nil
	}
}

// writeBundle answers the seccomp policy that is in the bundle.
func writeBundle(dir string, p Plan) (*specs.LinuxSeccomp, error) {
	spec, err := Bundle(p)
	if err != nil {
		return nil, err
	}
	if err := save(dir, "config.json", spec, false); err != nil {
		return nil, fmt.Errorf("write the bundle: %w", err)
	}
	return spec.Linux.Seccomp, nil
}

func (c *entry) file(name string) string { return filepath.Join(c.dir, name) }
