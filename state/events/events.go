// SPDX-License-Identifier: Apache-2.0

// Package events records what people should know as core/v1 Events: written in the background, counted instead of
// repeated, and bounded, so that no component waits for them or floods the store with them.
//
// A Sink belongs to a process; each component has a Recorder of it. The same event (component, object, type, reason and
// message) within ten minutes adds to the count of the one before. An object may cause 25 new events at once and one
// every five minutes after that; the rest is dropped, as is what does not fit into the queue.
//
// Goroutines: Run, which is the only one that writes and owns what is remembered. It holds no files.
package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/client"
)

// Sink writes the events of all recorders. Make it with New.
type Sink struct {
	client client.Client[corev1.Event]
	queue  chan occurrence
	log    *slog.Logger
	now    func() time.Time

	known   map[identity]*known
	budgets map[types.UID]*budget
}

const (
	queueLength = 1000
	window      = 10 * time.Minute // the same event within it is counted
	remembered  = 4096             // events, and objects
	burst       = 25               // new events of one object at once
	refill      = 5 * time.Minute  // for one more
	writeWithin = 10 * time.Second
)

type identity struct {
	component string
	object    corev1.ObjectReference
	kind      string
	reason    string
	message   string
}

type occurrence struct {
	identity
	host string
	at   time.Time
}

// known is an event that was written.
type known struct {
	namespace, name string
	count           int32
	last            time.Time
}

type budget struct {
	left float64
	at   time.Time
}

// New makes a Sink that writes through do.
func New(do client.Doer, log *slog.Logger) *Sink {
	return &Sink{
		client: client.For[corev1.Event](do, ""), queue: make(chan occurrence, queueLength), log: log, now: time.Now,
		known: map[identity]*known{}, budgets: map[types.UID]*budget{},
	}
}

// Recorder records for one component. It is a value.
type Recorder struct {
	sink            *Sink
	component, host string
}

// For makes a recorder: component is what people see as the source ("kubelet"), host the node it speaks of, if any.
func (s *Sink) For(component, host string) Recorder { return Recorder{s, component, host} }

// Event records that something happened to an object; kind is "Normal" or "Warning". It never blocks.
func (r Recorder) Event(regarding kinds.Object, kind, reason, message string) {
	r.EventAt(regarding, "", kind, reason, message)
}

// EventAt is Event about a part of the object: "spec.containers{web}".
func (r Recorder) EventAt(regarding kinds.Object, fieldPath, kind, reason, message string) {
	ref := Reference(regarding)
	ref.FieldPath = fieldPath
	o := occurrence{identity{r.component, ref, kind, reason, message}, r.host, r.sink.now()}
	select {
	case r.sink.queue <- o:
	default:
		r.sink.log.Debug("too many events at once: one is dropped", "reason", reason, "object", ref.Name)
	}
}

// Reference is how an event names its object.
func Reference(o kinds.Object) corev1.ObjectReference {
	ref := corev1.ObjectReference{
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(),
	}
	if t := kinds.Of(o); t != nil {
		ref.APIVersion, ref.Kind = t.GroupVersion().String(), t.Kind
	}
	return ref
}

// Run writes events until ctx ends.
func (s *Sink) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case o := <-s.queue:
			if err := s.record(ctx, o); err != nil && ctx.Err() == nil {
				s.log.Debug("an event is lost", "reason", o.reason, "object", o.object.Name, "err", err)
			}
		}
	}
}

func (s *Sink) record(ctx context.Context, o occurrence) error {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	id := o.identity
	id.object.ResourceVersion = "" // the same object at another time
	if k := s.known[id]; k != nil && o.at.Sub(k.last) < window {
		k.last = o.at
		k.count++
		err := s.again(ctx, k)
		if !errors.Is(err, errs.NotFound) {
			return err
		}
		delete(s.known, id) // somebody removed it: begin anew
	}
	if !s.allow(o.object.UID, o.at) {
		return nil
	}
	e := o.event()
	if _, err := s.client.Create(ctx, e); err != nil {
		return err
	}
	s.forget(o.at)
	s.known[id] = &known{namespace: e.Namespace, name: e.Name, count: 1, last: o.at}
	return nil
}

func (s *Sink) again(ctx context.Context, k *known) error {
	patch, err := json.Marshal(map[string]any{"count": k.count, "lastTimestamp": metav1.NewTime(k.last)})
	if err != nil {
		return err
	}
	_, err = s.client.Patch(ctx, k.namespace, k.name, types.MergePatchType, patch, "")
	return err
}

func (o occurrence) event() *corev1.Event {
	ns := o.object.Namespace
	if ns == "" {
		ns = metav1.NamespaceDefault
	}
	at := metav1.NewTime(o.at)
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprintf("%s.%x", o.object.Name, o.at.UnixNano())},
		InvolvedObject: o.object,
		Type:           o.kind, Reason: o.reason, Message: o.message,
		Source:         corev1.EventSource{Component: o.component, Host: o.host},
		FirstTimestamp: at, LastTimestamp: at, Count: 1,
		ReportingController: o.component, ReportingInstance: o.host,
	}
}

// allow says whether an object may have one more event.
func (s *Sink) allow(uid types.UID, now time.Time) bool {
	b := s.budgets[uid]
	if b == nil {
		b = &budget{left: burst}
		s.budgets[uid] = b
	} else {
		b.left = min(burst, b.left+float64(now.Sub(b.at))/float64(refill))
	}
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// forget keeps what is remembered within bounds: when there is too much, what has expired goes, and then any until half is
// left, so that this is seldom done.
func (s *Sink) forget(now time.Time) {
	shrink(s.known, func(k *known) bool { return now.Sub(k.last) >= window })
	shrink(s.budgets, func(b *budget) bool { return now.Sub(b.at) >= burst*refill })
}

func shrink[K comparable, V any](m map[K]V, expired func(V) bool) {
	if len(m) < remembered {
		return
	}
	maps.DeleteFunc(m, func(_ K, v V) bool { return expired(v) })
	for k := range m {
		if len(m) <= remembered/2 {
			return
		}
		delete(m, k)
	}
}
