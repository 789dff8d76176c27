// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"sync"
	"time"
)

// A task is something that policies, not callers, want done with a container. Run performs them.
type task struct {
	c      *entry
	remove bool          // auto-removal; else a restart
	after  time.Duration // the restart's back-off
	off    chan struct{} // closed: the restart was called off
}

// tasks is a queue without bound: a container has at most one task at a time.
type tasks struct {
	wake chan struct{} // one token when the list is not empty
	mu   sync.Mutex
	list []task
}

func newTasks() *tasks { return &tasks{wake: make(chan struct{}, 1)} }

func (t *tasks) add(one task) {
	t.mu.Lock()
	t.list = append(t.list, one)
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *tasks) take() []task {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.list
	t.list = nil
	return list
}

func (e *Engine) perform(ctx context.Context, t task) {
	if t.remove {
		if err := e.Remove(ctx, t.c.id, RemoveOptions{Force: true, Volumes: true}); err != nil {
			e.log.Warn("auto-removal", "container", t.c.id, "err", err)
		}
		return
	}
	timer := time.NewTimer(t.after)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.off:
		return
	case <-ctx.Done():
		return
	}
	t.c.op.Lock()
	defer t.c.op.Unlock()
	t.c.mu.Lock()
	due := t.c.st.State == Restarting && t.c.restart == t.off
	if due {
		t.c.restart = nil
		t.c.st.Restarts++
	}
	t.c.mu.Unlock()
	if !due {
		return
	}
	if err := e.start(context.WithoutCancel(ctx), t.c, true); err != nil {
		e.log.Warn("restart", "container", t.c.id, "err", err)
	}
}
