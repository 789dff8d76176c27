// SPDX-License-Identifier: Apache-2.0

package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"github.com/knarr/knarr/engine/shim"
	"github.com/knarr/knarr/internal/errs"
)

const defaultGrace = 10 * time.Second

// StopOptions narrow StopWith.
type StopOptions struct {
	Grace      *time.Duration // before SIGKILL; nil: the container's own; negative: for ever
	Signal     string         // instead of the container's stop signal
	WaitAnyway bool           // wait out the grace even for a process that cannot receive the signal
}

// Stop is StopWith a grace alone.
func (e *Engine) Stop(ctx context.Context, ref string, grace *time.Duration) error {
	_, err := e.StopWith(ctx, ref, StopOptions{Grace: grace})
	return err
}

// StopWith sends the stop signal, waits for the grace, then kills. It returns when the container has exited. A container
// that does not run is no error. A restart policy does not start it again.
//
// A PID 1 that neither catches nor blocks the signal nor reads it from a signalfd never receives it: the kernel drops it. It
// is killed at once then, and note says so, unless the options ask for the wait.
func (e *Engine) StopWith(ctx context.Context, ref string, o StopOptions) (note string, err error) {
	c, err := e.find(ref)
	if err != nil {
		return "", err
	}
	rec := c.record()
	sig, err := parseSignal(cmp.Or(o.Signal, rec.StopSignal))
	if err != nil {
		return "", err
	}
	wait := defaultGrace
	if o.Grace == nil {
		o.Grace = rec.Spec.StopGrace
	}
	if o.Grace != nil {
		wait = *o.Grace
	}
	client, ended := e.askToStop(c)
	if client == nil {
		return "", nil
	}
	if err := e.thaw(ctx, c, client); err != nil {
		return "", err
	}
	deaf := wait > 0 && !o.WaitAnyway && isDeaf(c.status().Pid, sig)
	if err := client.Signal(ctx, sig); err != nil && !errors.Is(err, errs.Gone) {
		return "", err
	}
	e.emit(c, "kill", map[string]string{"signal": strconv.Itoa(int(sig))})
	if deaf && isDeaf(c.status().Pid, sig) { // before and after: so it was when the signal was sent
		note = fmt.Sprintf("PID 1 of %s neither catches nor blocks %s and so never receives it: killed without waiting %s", rec.Spec.Name, signalName(sig), wait)
		e.log.Info("stop without grace", "container", c.id, "signal", signalName(sig))
		wait = 0
	}
	var timeout <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-ended:
	case <-timeout:
		err = e.killAndWait(ctx, c, client, ended)
	case <-ctx.Done():
		return note, context.Cause(ctx)
	}
	if err == nil {
		e.emit(c, "stop", nil)
	}
	return note, err
}

// isDeaf says that a process can not receive a signal. One that cannot be read is ending, and is waited for.
func isDeaf(pid int, sig syscall.Signal) bool {
	s, err := readSignals(pid)
	return err == nil && !s.Reaches(sig)
}

// askToStop marks the end as wanted, calls a waiting restart off, and answers what runs.
func (e *Engine) askToStop(c *entry) (*shim.Client, <-chan struct{}) {
	c.op.Lock()
	defer c.op.Unlock()
	c.callOff()
	c.mu.Lock()
	waiting := c.st.State == Restarting
	c.st.Stopped = true
	if waiting {
		c.st.State = Exited
	}
	running := c.st.running()
	client, ended, policy := c.client, c.ended, c.rec.Spec.Restart.Name
	c.mu.Unlock()
	if waiting || running && policy != "" && policy != "no" {
		if err := c.saveStatus(); err != nil {
			e.log.Error("save state", "container", c.id, "err", err)
		}
	}
	if !running {
		return nil, nil
	}
	return client, ended
}

func (e *Engine) killAndWait(ctx context.Context, c *entry, client *shim.Client, ended <-chan struct{}) error {
	if err := client.SignalAll(ctx, syscall.SIGKILL); err != nil && !errors.Is(err, errs.Gone) {
		return err
	}
	e.emit(c, "kill", map[string]string{"signal": "9"})
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Kill sends a signal ("KILL", "SIGTERM", "9"; "" is KILL). A container that does not run is errs.Conflict.
func (e *Engine) Kill(ctx context.Context, ref, signal string) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	if signal == "" {
		signal = "KILL"
	}
	sig, err := parseSignal(signal)
	if err != nil {
		return err
	}
	client := c.live()
	if client == nil {
		return errs.New(errs.Conflict, "cannot kill container: %s: container %s is not running", ref, c.id)
	}
	if stop, err := parseSignal(c.record().StopSignal); sig == syscall.SIGKILL || err == nil && sig == stop {
		// Whoever asks for the end means it: it stays down. A paused one must be let go to die.
		c.set(func(s *status) { s.Stopped = true })
		if err := c.saveStatus(); err != nil {
			return err
		}
		if err := e.thaw(ctx, c, client); err != nil {
			return err
		}
	}
	if err := client.Signal(ctx, sig); err != nil {
		if errors.Is(err, errs.Gone) {
			return errs.New(errs.Conflict, "cannot kill container: %s: container %s is not running", ref, c.id)
		}
		return err
	}
	e.emit(c, "kill", map[string]string{"signal": strconv.Itoa(int(sig))})
	return nil
}

// Restart is Stop and Start.
func (e *Engine) Restart(ctx context.Context, ref string, grace *time.Duration) error {
	_, err := e.RestartWith(ctx, ref, StopOptions{Grace: grace})
	return err
}

// RestartWith is StopWith and Start.
func (e *Engine) RestartWith(ctx context.Context, ref string, o StopOptions) (note string, err error) {
	if note, err = e.StopWith(ctx, ref, o); err != nil {
		return note, err
	}
	if err := e.Start(ctx, ref); err != nil {
		return note, err
	}
	if c, err := e.find(ref); err == nil {
		e.emit(c, "restart", nil)
	}
	return note, nil
}

// Pause freezes every process of a running container.
func (e *Engine) Pause(ctx context.Context, ref string) error {
	return e.freeze(ctx, ref, Running, Paused, "pause", (*shim.Client).Pause)
}

// Unpause undoes Pause.
func (e *Engine) Unpause(ctx context.Context, ref string) error {
	return e.freeze(ctx, ref, Paused, Running, "unpause", (*shim.Client).Resume)
}

func (e *Engine) freeze(ctx context.Context, ref string, from, to State, action string, do func(*shim.Client, context.Context) error) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	client := c.live()
	switch st := c.status(); {
	case client == nil:
		return errs.New(errs.Conflict, "container %s is not running", c.id)
	case st.State == to && to == Paused:
		return errs.New(errs.Conflict, "container %s is already paused", c.id)
	case st.State != from:
		return errs.New(errs.Conflict, "container %s is not paused", c.id)
	}
	if err := do(client, ctx); err != nil {
		return err
	}
	c.set(func(s *status) { s.State = to })
	if err := c.saveStatus(); err != nil {
		return err
	}
	e.emit(c, action, nil)
	return nil
}

// thaw lets a paused container go on, because a frozen process takes no signal.
func (e *Engine) thaw(ctx context.Context, c *entry, client *shim.Client) error {
	c.op.Lock()
	defer c.op.Unlock()
	if c.status().State != Paused || c.live() != client {
		return nil
	}
	if err := client.Resume(ctx); err != nil && !errors.Is(err, errs.Gone) {
		return err
	}
	c.set(func(s *status) { s.State = Running })
	return c.saveStatus()
}
