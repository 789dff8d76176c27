// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
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

func (m *monitor) answerOOM(c *conn, q request) {
	closed := gone(c)
	after := q.After
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
		case <-closed:
			return
		case <-m.exited:
			if rest, _ := m.oom.since(after); len(rest) == 0 {
				return
			}
		}
	}
}

// OOMs calls f for each time that the container runs out of memory, from the one after number after on, until ctx ends or the
// container has exited and all are told; that is no error.
func (c *Client) OOMs(ctx context.Context, after int, f func(OOM)) error {
	cn, err := c.dial()
	if err != nil {
		return err
	}
	defer cn.Close()
	stop := context.AfterFunc(ctx, func() { _ = cn.f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := cn.send(request{Op: opOOM, After: after}); err != nil {
		return errs.New(errs.Gone, "%s: the monitor has ended: %w", opOOM, err)
	}
	for {
		var r response
		if _, err := cn.recv(&r); err != nil {
			return ctx.Err()
		}
		if r.err() != nil || r.OOM == nil {
			return r.err()
		}
		f(*r.OOM)
	}
}
