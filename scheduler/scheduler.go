// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

// Name is the scheduler that pods ask for when they ask for none.
const Name = "default-scheduler"

// binders is how many bindings are under way at once; the store syncs them to disk together.
const binders = 16

// Recorder takes events; events.Recorder is the real one.
type Recorder interface {
	Event(regarding kinds.Object, kind, reason, message string)
}

// Scheduler binds pods to nodes. Make it with New.
type Scheduler struct {
	reader cache.Reader
	doer   client.Doer
	pods   client.Client[corev1.Pod]
	events Recorder
	log    *slog.Logger
	now    func() time.Time

	// All below belongs to Run's goroutine.
	view    *View
	queue   queue
	results chan result
	slots   chan struct{}
	writers sync.WaitGroup
}

// result is how a write ended: a binding, or, without a node, the condition of a pod that fits nowhere.
type result struct {
	pod  *corev1.Pod
	node string
	err  error
}

// New makes a Scheduler; it starts nothing.
func New(reader cache.Reader, doer client.Doer, events Recorder, log *slog.Logger) *Scheduler {
	return &Scheduler{
		reader: reader, doer: doer, pods: client.For[corev1.Pod](doer, "kube-scheduler"), events: events, log: log, now: time.Now,
		results: make(chan result, binders), slots: make(chan struct{}, binders),
	}
}

// Run schedules until ctx ends; that is no error.
func (s *Scheduler) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer s.writers.Wait()
	defer cancel()
	if _, err := s.reader.Wait(ctx, 1); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("wait for the first state: %w", err)
	}
	for ctx.Err() == nil {
		if err := s.follow(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("the scheduler lost the watch; looking at everything again", "err", err)
		}
	}
	return nil
}

// follow makes the View from a snapshot and keeps it by the changes after it.
func (s *Scheduler) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	snap := s.reader.Snapshot()
	assumed := s.view
	s.view = NewView(snap)
	s.queue.reset()
	for p := range cache.Indexed[corev1.Pod](snap, cache.ByNode, "") {
		if assumed != nil && assumed.placed(p.UID) != "" {
			s.view.place(p, assumed.placed(p.UID)) // its binding is under way
			continue
		}
		s.consider(p)
	}
	in := &inbox{some: make(chan struct{}, 1)}
	lost := make(chan error, 1)
	go func() { lost <- read(ctx, s.reader, snap.Revision(), in) }()
	var timer <-chan time.Time
	for {
		wait := s.schedule(ctx)
		if timer = nil; wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-in.some:
			for _, c := range in.take() {
				s.learn(c)
			}
		case r := <-s.results:
			s.finish(r)
		case <-timer:
		case err := <-lost:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// maxBehind is how many changes may wait for the scheduler before it rather begins anew.
const maxBehind = 10_000

// inbox takes changes from the goroutine that reads the watch and gives them all at once.
type inbox struct {
	mu      sync.Mutex // guards changes
	changes []cache.Change
	some    chan struct{} // one token: there are some
}

func (b *inbox) put(c cache.Change) error {
	b.mu.Lock()
	b.changes = append(b.changes, c)
	n := len(b.changes)
	b.mu.Unlock()
	select {
	case b.some <- struct{}{}:
	default:
	}
	if n > maxBehind {
		return errs.New(errs.Gone, "the scheduler is %d changes behind", n)
	}
	return nil
}

func (b *inbox) take() []cache.Change {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.changes
	b.changes = nil
	return out
}

// read puts the changes that matter into the inbox until ctx ends or the watch is lost.
func read(ctx context.Context, r cache.Reader, from int64, in *inbox) error {
	follows := []*kinds.Type{kinds.For[corev1.Pod](), kinds.For[corev1.Node](), kinds.For[corev1.Namespace]()}
	for c, err := range r.WatchAll(ctx, from) {
		if err != nil {
			return err
		}
		e := c.Entry()
		if e == nil || !slices.Contains(follows, e.Type) {
			continue
		}
		if err := in.put(c); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// learn brings the View and the queue up to date with one change.
func (s *Scheduler) learn(c cache.Change) {
	switch o := c.Entry().Object.(type) {
	case *corev1.Node:
		if c.New == nil {
			s.view.removeNode(o.Name)
			return
		}
		s.view.setNode(o)
		if c.Old == nil || mayHelp(cache.As[corev1.Node](c.Old), o) {
			s.queue.retryAll(s.now())
		}
	case *corev1.Namespace:
		s.view.setNamespace(o, c.New == nil)
		s.queue.retry(s.now(), dependsOnPods)
	case *corev1.Pod:
		s.learnPod(o, c)
	}
}

func (s *Scheduler) learnPod(p *corev1.Pod, c cache.Change) {
	was := s.view.placed(p.UID)
	switch {
	case c.New == nil:
		s.queue.remove(p.UID)
		s.view.removePod(p.UID)
	case p.Spec.NodeName != "":
		s.queue.remove(p.UID)
		s.view.setPod(p)
	default:
		s.consider(p)
		return
	}
	switch {
	case was != "" && s.view.placed(p.UID) == "":
		s.queue.retryAll(s.now()) // it made room
	case was != s.view.placed(p.UID) || c.Old != nil && movesOthers(cache.As[corev1.Pod](c.Old), p):
		s.queue.retry(s.now(), dependsOnPods)
	}
}

// movesOthers: a change of a pod that may let those in who look at their neighbours; an ending one counts less.
func movesOthers(old, new *corev1.Pod) bool {
	return !maps.Equal(old.Labels, new.Labels) || (old.DeletionTimestamp == nil) != (new.DeletionTimestamp == nil)
}

// mayHelp: a change of a node that may make room for a pod that fitted nowhere.
func mayHelp(old, new *corev1.Node) bool {
	return !equal(old.Spec.Taints, new.Spec.Taints) || old.Spec.Unschedulable != new.Spec.Unschedulable ||
		!equal(old.Labels, new.Labels) || !equal(old.Status.Allocatable, new.Status.Allocatable)
}

// consider puts a pod without a node into the queue, if it is ours to schedule and not assumed somewhere already.
func (s *Scheduler) consider(p *corev1.Pod) {
	name := p.Spec.SchedulerName
	if p.DeletionTimestamp != nil || len(p.Spec.SchedulingGates) > 0 || name != "" && name != Name {
		s.queue.remove(p.UID)
		return
	}
	if s.view.placed(p.UID) == "" {
		s.queue.put(p, s.now())
	}
}

// schedule places all pods that are due and says how long until the next is; zero: none waits for time.
func (s *Scheduler) schedule(ctx context.Context) (wait time.Duration) {
	placed := false
	for {
		p, wait := s.queue.take(s.now())
		switch {
		case p == nil && placed: // where they went may be what others wait for
			placed = false
			s.queue.retry(s.now(), dependsOnPods)
			continue
		case p == nil:
			return wait
		}
		node, reasons := Place(s.view, p)
		if node == "" {
			s.fail(ctx, p, reasons)
			continue
		}
		s.view.place(p, node)
		s.queue.remove(p.UID)
		placed = true
		s.write(ctx, func() { s.report(ctx, result{p, node, s.bind(ctx, p, node)}) })
	}
}

// write does f on a goroutine of its own, waiting for a free slot and taking results meanwhile.
func (s *Scheduler) write(ctx context.Context, f func()) {
	for {
		select {
		case s.slots <- struct{}{}:
			s.writers.Go(func() {
				defer func() { <-s.slots }()
				f()
			})
			return
		case r := <-s.results:
			s.finish(r)
		case <-ctx.Done():
			return
		}
	}
}

func (s *Scheduler) report(ctx context.Context, r result) {
	select {
	case s.results <- r:
	case <-ctx.Done():
	}
}

func (s *Scheduler) bind(ctx context.Context, p *corev1.Pod, node string) error {
	b := &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: node}}
	b.Namespace, b.Name, b.UID = p.Namespace, p.Name, p.UID
	_, err := s.doer.Do(ctx, client.Request{
		Verb: client.Create, Type: kinds.For[corev1.Pod](), Namespace: p.Namespace, Name: p.Name, Subresource: "binding", Object: b,
		FieldManager: "kube-scheduler",
	})
	return err
}

// finish takes a binding's result: a pod that could not be bound is taken off its node and tried again.
func (s *Scheduler) finish(r result) {
	if r.node == "" {
		s.finishTelling(r)
		return
	}
	if r.err == nil {
		s.events.Event(r.pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned "+fullName(r.pod)+" to "+r.node)
		return
	}
	s.view.removePod(r.pod.UID)
	if errors.Is(r.err, errs.NotFound) || errors.Is(r.err, errs.Conflict) {
		// Deleted, or bound by somebody else: the cache will tell. Should it not, the pod as it is then is looked at again.
		if p, ok := cache.Get[corev1.Pod](s.reader.Snapshot(), r.pod.Namespace, r.pod.Name); ok && p.UID == r.pod.UID {
			s.view.setPod(p)
			if p.Spec.NodeName == "" && p.DeletionTimestamp == nil {
				s.queue.again(p, s.now())
			}
		}
		return
	}
	s.log.Warn("bind a pod", "pod", fullName(r.pod), "node", r.node, "err", r.err)
	s.events.Event(r.pod, corev1.EventTypeWarning, "FailedScheduling", "bind to "+r.node+": "+r.err.Error())
	s.queue.again(r.pod, s.now())
}

// finishTelling takes the result of writing a condition: what could not be written is written at the next attempt, which
// comes after a pause and looks at the pod as it is then.
func (s *Scheduler) finishTelling(r result) {
	if r.err == nil || errors.Is(r.err, errs.NotFound) {
		return
	}
	s.log.Debug("say that a pod is unschedulable", "pod", fullName(r.pod), "err", r.err)
	s.queue.untold(r.pod.UID, s.now())
}

// fail notes that a pod fits nowhere: in the queue, in its condition, and as an event; the latter two once for each text.
func (s *Scheduler) fail(ctx context.Context, p *corev1.Pod, reasons []Reason) {
	nodes := s.view.Len()
	text := Summary(nodes, reasons)
	told := s.queue.later(p, s.now()) == text
	s.queue.told(p.UID, text)
	if told {
		return
	}
	s.events.Event(p, corev1.EventTypeWarning, "FailedScheduling", Details(nodes, reasons))
	c := p.DeepCopy()
	if !setUnschedulable(c, text, s.now()) {
		return
	}
	// With its resourceVersion: a write that comes late must not take back what a kubelet has said since.
	s.write(ctx, func() {
		_, err := s.pods.UpdateStatus(ctx, c)
		s.report(ctx, result{pod: p, err: err})
	})
}

func fullName(p *corev1.Pod) string {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}.String()
}
