// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"sync"
	"time"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

// Loop runs controllers. Make it with New.
type Loop struct {
	reader  cache.Reader
	doer    client.Doer
	events  func(component string) Recorder
	log     *slog.Logger
	now     func() time.Time
	running []*running
	watches map[*kinds.Type][]watched
}

// Options of a Loop. The zero value works.
type Options struct {
	Workers int              // passes of one controller at once; 0: 4
	Now     func() time.Time // 0: time.Now
}

// running is a controller with its queue.
type running struct {
	Controller
	queue   *queue
	applier func() *applier
	log     *slog.Logger
	workers chan struct{}

	mu      sync.Mutex // guards failing
	failing map[Key]failure
}

type failure struct {
	times int
	err   error
}

type watched struct {
	Watch
	by *running
}

// New makes a Loop; events gives the recorder that a controller's events go to, by its name.
func New(reader cache.Reader, doer client.Doer, events func(component string) Recorder, o Options, log *slog.Logger, controllers ...Controller) *Loop {
	if o.Workers <= 0 {
		o.Workers = 4
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Loop{reader: reader, doer: doer, events: events, log: log, now: o.Now, watches: map[*kinds.Type][]watched{}}
	for _, c := range controllers {
		rec, limit := events(c.Name), make(chan struct{}, batchLimit)
		r := &running{
			Controller: c, queue: newQueue(), log: log.With("controller", c.Name),
			workers: make(chan struct{}, o.Workers), failing: map[Key]failure{},
			applier: func() *applier { return &applier{doer: doer, events: rec, manager: c.Name, limit: limit} },
		}
		l.running = append(l.running, r)
		for _, w := range c.watches {
			l.watches[w.Type] = append(l.watches[w.Type], watched{w, r})
		}
	}
	return l
}

// Run runs the controllers until ctx ends.
func (l *Loop) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if _, err := l.reader.Wait(ctx, 1); err != nil {
		return err
	}
	for _, r := range l.running {
		wg.Go(func() { l.work(ctx, r) })
	}
	for ctx.Err() == nil {
		err := l.feed(ctx)
		if err != nil && ctx.Err() == nil {
			l.log.Warn("the controllers lost the watch; looking at everything again", "err", err)
		}
	}
	return context.Cause(ctx)
}

// feed makes all keys due and then those that changes concern.
func (l *Loop) feed(ctx context.Context) error {
	s := l.reader.Snapshot()
	for _, r := range l.running {
		for _, k := range r.Keys(s) {
			r.queue.add(k, l.now())
		}
	}
	for c, err := range l.reader.WatchAll(ctx, s.Revision()) {
		if err != nil {
			return err
		}
		e := c.Entry()
		if e == nil {
			continue
		}
		if len(l.watches[e.Type])+len(l.watches[nil]) == 0 {
			continue
		}
		s := l.reader.Snapshot()
		for _, watches := range [][]watched{l.watches[e.Type], l.watches[nil]} {
			for _, w := range watches {
				for _, k := range w.concerned(s, c) {
					w.by.queue.add(k, l.now())
				}
			}
		}
	}
	return nil
}

// work hands the keys of one controller to workers.
func (l *Loop) work(ctx context.Context, r *running) {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case r.workers <- struct{}{}:
		case <-ctx.Done():
			return
		}
		i, wait := r.queue.take(l.now())
		if i != nil {
			wg.Go(func() {
				l.pass(ctx, r, i)
				<-r.workers
			})
			continue
		}
		<-r.workers
		var due <-chan time.Time
		if wait >= 0 {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-r.queue.wake:
		case <-due:
		case <-ctx.Done():
			return
		}
	}
}

// How long a pass waits for the cache to show the last one's writes, and how soon it looks again for a deletion that has
// no revision to wait for (the deletion's own event mostly comes first).
const (
	showWithin = 10 * time.Second
	lookAgain  = 20 * time.Millisecond
)

// pass looks at one key once.
func (l *Loop) pass(ctx context.Context, r *running, i *item) {
	s, shown, err := l.show(ctx, &i.wrote)
	if err != nil {
		l.end(ctx, r, i, err, 0)
		return
	}
	if !shown {
		r.queue.later(i, l.now().Add(lookAgain))
		return
	}
	i.wrote = wrote{}
	began := l.now()
	plan, ok := r.plan(s, i.key, began)
	if !ok {
		l.end(ctx, r, i, nil, 0)
		return
	}
	a := r.applier()
	err = a.apply(ctx, &plan)
	i.wrote = a.wrote
	i.wrote.since = l.now()
	if !plan.Empty() || err != nil {
		r.log.Debug("pass", "key", i.key, "rev", s.Revision(), "why", plan.Why, "actions", len(plan.Actions), "took", l.now().Sub(began), "err", err)
	}
	l.end(ctx, r, i, err, plan.Again)
}

// show returns a snapshot that has what was written; shown is false while a deletion is still to be seen.
func (l *Loop) show(ctx context.Context, w *wrote) (s *cache.Snapshot, shown bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, showWithin,
		errs.New(errs.Unavailable, "the cache has not reached revision %d for %s", w.rev, showWithin))
	defer cancel()
	if s, err = l.reader.Wait(ctx, w.rev, w.kinds...); err != nil {
		return nil, false, err
	}
	if l.now().Sub(w.since) > showWithin {
		return s, true, nil
	}
	for _, d := range w.deleted {
		e, ok := s.Get(d.t, d.key.Namespace, d.key.Name)
		if ok && e.Object.GetUID() == d.uid && e.Object.GetResourceVersion() == d.rev {
			return s, false, nil
		}
	}
	return s, true, nil
}

// degradedAfter is how often a key must fail in a row before its controller is called degraded: a conflict now and then
// is how optimistic writing works.
const degradedAfter = 5

func (l *Loop) end(ctx context.Context, r *running, i *item, err error, again time.Duration) {
	if ctx.Err() != nil {
		err = nil
	}
	r.mu.Lock()
	if err == nil {
		delete(r.failing, i.key)
	} else {
		r.failing[i.key] = failure{i.fails + 1, err}
		if i.fails+1 == degradedAfter && !errors.Is(err, errs.Conflict) {
			r.log.Warn("it keeps failing", "key", i.key, "err", err)
		}
	}
	r.mu.Unlock()
	r.queue.done(i, l.now(), err, again)
}

// Health is how one controller does.
type Health struct {
	Controller string
	Degraded   bool
	Why        string // of the key that failed most often
}

// Health tells of each controller whether some key keeps failing.
func (l *Loop) Health() []Health {
	var out []Health
	for _, r := range l.running {
		h := Health{Controller: r.Name}
		most := degradedAfter - 1
		r.mu.Lock()
		for k, f := range r.failing {
			if f.times > most {
				most = f.times
				h.Degraded, h.Why = true, fmt.Sprintf("%s: %v (%d times)", k, f.err, f.times)
			}
		}
		r.mu.Unlock()
		out = append(out, h)
	}
	return out
}

// Controllers lists the names.
func (l *Loop) Controllers() []string {
	var out []string
	for _, r := range l.running {
		out = append(out, r.Name)
	}
	sort.Strings(out)
	return out
}

// Explain observes and decides one key for one controller, and applies nothing. False: the key means nothing to it.
func (l *Loop) Explain(controller string, key Key) (Plan, bool, error) {
	for _, r := range l.running {
		if r.Name == controller {
			p, ok := r.plan(l.reader.Snapshot(), key, l.now())
			return p, ok, nil
		}
	}
	return Plan{}, false, errs.New(errs.NotFound, "no controller is called %q", controller)
}
