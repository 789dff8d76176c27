// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"time"

	"github.com/knarr/knarr/internal/errs"
)

// A WaitCondition says what Wait waits for.
type WaitCondition string

// The conditions; the words are Docker's.
const (
	NotRunning WaitCondition = "not-running" // the default: at once when it does not run
	NextExit   WaitCondition = "next-exit"
	Removed    WaitCondition = "removed"
)

// Exit is how a container or an exec ended.
type Exit struct {
	Code                int // 128 + Signal when a signal ended it
	Signal              int
	OOMKilled           bool
	StartedAt, ExitedAt time.Time
	Error               string // why it could not be started, or why the exit is not known
}

// Wait blocks until the condition holds. The container is looked up, and counts as watched, before Wait first blocks.
func (e *Engine) Wait(ctx context.Context, ref string, cond WaitCondition) (Exit, error) {
	wait, err := e.Waiter(ref, cond)
	if err != nil {
		return Exit{}, err
	}
	return wait(ctx)
}

// Waiter is Wait in two steps: the watch is set up when Waiter returns, so that nothing that happens later is missed.
func (e *Engine) Waiter(ref string, cond WaitCondition) (wait func(context.Context) (Exit, error), err error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var on *exitWait
	switch cond {
	case NotRunning, "":
		if !c.st.running() && c.st.State != Restarting {
			now := c.st.exit()
			return func(context.Context) (Exit, error) { return now, nil }, nil
		}
		return c.waitIdle, nil
	case NextExit:
		on = c.exits
	case Removed:
		on = c.gone
	default:
		return nil, errs.New(errs.Invalid, "invalid condition: %q", cond)
	}
	return func(ctx context.Context) (Exit, error) {
		select {
		case <-on.ch:
			return on.exit, nil
		case <-ctx.Done():
			return Exit{}, context.Cause(ctx)
		}
	}, nil
}

// waitIdle waits through restarts until the container rests.
func (c *entry) waitIdle(ctx context.Context) (Exit, error) {
	for {
		c.mu.Lock()
		st, on, restart := c.st, c.exits, c.restart
		c.mu.Unlock()
		if !st.running() && st.State != Restarting {
			return st.exit(), nil
		}
		select {
		case <-on.ch:
		case <-restart: // called off, or nil while it runs
		case <-c.gone.ch:
			return c.gone.exit, nil
		case <-ctx.Done():
			return Exit{}, context.Cause(ctx)
		}
	}
}
