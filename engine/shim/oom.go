// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/knarr/knarr/engine/cgroup"
	"github.com/knarr/knarr/internal/errs"
)

// oomKept bounds what is remembered for clients that connect later; oomPatience is how long an exit for want of memory waits for
// the name of the process.
const (
	oomKept     = 64
	oomPatience = 200 * time.Millisecond
)

// ooms is what the container's memory watch has told.
type ooms struct {
	mu   sync.Mutex // guards all below
	last int        // sequence number
	kept []OOM
	more chan struct{} // closed and made anew with each one
}

func newOOMs() *ooms { return &ooms{more: make(chan struct{})} }

// watch records each until the watch is closed.
func (o *ooms) watch(w *cgroup.OOMWatch) {
	for {
		e, err := w.Next()
		if err != nil {
			return
		}
		o.add(OOM{Pid: e.Pid, Name: e.Name, At: time.Now().UTC()})
	}
}

func (o *ooms) add(e OOM) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last++
	e.Seq = o.last
	if len(o.kept) == oomKept {
		o.kept = slices.Delete(o.kept, 0, 1)
	}
	o.kept = append(o.kept, e)
	close(o.more)
	o.more = make(chan struct{})
}

// count is the number of the last one.
func (o *ooms) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

// since gives those after number n, and a channel that is closed when there are more.
func (o *ooms) since(n int) ([]OOM, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := 0
	for i < len(o.kept) && o.kept[i].Seq <= n {
		i++
	}
	return slices.Clone(o.kept[i:]), o.more
}

// lastSoon gives the last one, for which it waits a moment if there is none yet.
func (o *ooms) lastSoon() *OOM {
	timer := time.NewTimer(oomPatience)
	defer timer.Stop()
	for {
		list, more := o.since(0)
		if len(list) > 0 {
			return &list[len(list)-1]
		}
		select {
		case <-more:
		case <-timer.C:
			return nil
		}
	}
}

// watchMemory begins once the container is created, off the way of its start.
func (m *monitor) watchMemory() {
	g, err := m.runtime.Group(m.launch.ID)
	if err != nil {
		return
	}
	w, err := g.WatchOOM()
	if err != nil {
		warn(err.Error())
		return
	}
	go m.oom.watch(w)
	<-m.exited
	w.Close()
}

// tell sends what was not told yet, until the container has exited or the client has gone.
func (m *monitor) tell(c *conn, after int, closed <-chan struct{}) {
	for {
		list, more := m.oom.since(after)
		for _, e := range list {
			after = e.Seq
			if c.send(response{OOM: &e}) != nil {
				return
			}
		}
		select {
		case <-more:
			continue
		case <-closed:
			return
		case <-m.exited:
		}
		if rest, _ := m.oom.since(after); len(rest) == 0 {
			return
		}
	}
}

// Watch is Wait that also calls f for each time that the container runs out of memory, from the one after number after on; with
// a negative number only for those to come.
func (c *Client) Watch(ctx context.Context, after int, f func(OOM)) (Exit, error) {
	exit, err := c.watch(ctx, after, f)
	if err == nil {
		return exit, nil
	}
	if e, ok, readErr := ReadExit(c.dir); readErr == nil && ok && ctx.Err() == nil {
		return e, nil
	}
	return Exit{}, err
}

func (c *Client) watch(ctx context.Context, after int, f func(OOM)) (Exit, error) {
	cn, err := c.dial()
	if errors.Is(err, errs.NotFound) {
		err = errs.New(errs.Gone, "%s: the monitor has ended", opWait)
	}
	if err != nil {
		return Exit{}, err
	}
	defer cn.Close()
	r, _, err := cn.ask(ctx, request{Op: opWait, Watch: true, After: after})
	for err == nil && r.OOM != nil {
		f(*r.OOM)
		r, _, err = cn.answer(ctx, opWait)
	}
	if err != nil {
		return Exit{}, err
	}
	return *r.Exit, nil
}
