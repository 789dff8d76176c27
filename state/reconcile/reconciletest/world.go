// SPDX-License-Identifier: Apache-2.0

// Package reconciletest has a model of the API server for tests of controllers: a World is a map of objects that is a
// client.Doer (so that plans can be applied to it) and a cache.Source (so that controllers observe it as they do the
// cluster). Converges checks the fifth law on it for any controller.
//
// The model has versions, UIDs, generated names, finalizers, deletion by propagation of nobody (there is no garbage
// collector in it) and graceful deletion of running pods; it defaults and validates nothing. Goroutines: none but those of
// the Cache it feeds, which the caller runs.
package reconciletest

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

// World is the model. Make it with New.
type World struct {
	Cache *cache.Cache
	Now   func() time.Time

	mu      sync.Mutex // guards all below
	rev     int64
	uids    int
	objects map[string]kinds.Object // by kinds.Type.Key
	feed    func(cache.Batch)
	held    []cache.Batch // not fed yet, while lagging
	lag     bool
	refuse  func(client.Request) error
	Log     []string // every write, as "create pods default/web"
}

// New makes a World with the given objects; its Cache is filled when New returns and follows each write at once. The
// Cache ends with ctx.
func New(ctx context.Context, now func() time.Time, objects ...kinds.Object) *World {
	w := &World{Now: now, rev: 1, objects: map[string]kinds.Object{}}
	for _, o := range objects {
		w.rev++
		w.put(o.DeepCopyObject().(kinds.Object), true)
	}
	w.Cache = cache.New(w, kinds.All, cache.Options{}, slog.New(slog.DiscardHandler))
	go w.Cache.Run(ctx) //nolint:errcheck // it ends with ctx
	<-w.Cache.Ready()
	return w
}

// Run is cache.Source.
func (w *World) Run(ctx context.Context, feed func(cache.Batch)) error {
	w.mu.Lock()
	b := cache.Batch{Reset: true, Revision: w.rev}
	for _, o := range w.objects {
		b.Updates = append(b.Updates, w.update(o, false))
	}
	w.feed = feed
	feed(b)
	w.mu.Unlock()
	<-ctx.Done()
	return context.Cause(ctx)
}

// Progress is cache.Source; it tells nothing while the cache lags.
func (w *World) Progress(context.Context) error { return nil }

// Lag stops feeding the cache; what happens is fed when it is called with false.
func (w *World) Lag(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lag = on
	if !on {
		for _, b := range w.held {
			w.feed(b)
		}
		w.held = nil
	}
}

// Refuse makes writes fail for which f returns an error.
func (w *World) Refuse(f func(client.Request) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = f
}

// Put writes an object as somebody else, without conditions, creating it if need be.
func (w *World) Put(o kinds.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rev++
	o = o.DeepCopyObject().(kinds.Object)
	_, exists := w.objects[key(o)]
	w.put(o, !exists)
	w.tell(w.update(o, false))
}

// Remove takes an object away at once.
func (w *World) Remove(o kinds.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remove(o)
}

// Change edits each object of a Go type in place, as somebody else; edit says whether it did.
func Change[T any](w *World, edit func(*T) bool) {
	for o := range cache.List[T](w.Cache.Snapshot(), "") {
		c := any(o).(kinds.Object).DeepCopyObject()
		if edit(any(c).(*T)) {
			w.Put(c.(kinds.Object))
		}
	}
}

func key(o kinds.Object) string { return kinds.Of(o).Key(o.GetNamespace(), o.GetName()) }

func (w *World) put(o kinds.Object, fresh bool) {
	if fresh {
		if o.GetUID() == "" {
			w.uids++
			o.SetUID(types.UID(fmt.Sprintf("uid-%d", w.uids)))
		}
		if ts := o.GetCreationTimestamp(); ts.IsZero() {
			o.SetCreationTimestamp(metav1.NewTime(w.Now()))
		}
		if o.GetGeneration() == 0 {
			o.SetGeneration(1)
		}
	}
	o.SetResourceVersion(strconv.FormatInt(w.rev, 10))
	w.objects[key(o)] = o
}

func (w *World) update(o kinds.Object, gone bool) cache.Update {
	u := cache.Update{Type: kinds.Of(o), Namespace: o.GetNamespace(), Name: o.GetName(), Revision: w.rev}
	if !gone {
		u.Revision, _ = strconv.ParseInt(o.GetResourceVersion(), 10, 64)
		u.Object = o.DeepCopyObject().(kinds.Object)
	}
	return u
}

func (w *World) remove(o kinds.Object) {
	w.rev++
	delete(w.objects, key(o))
	w.tell(w.update(o, true))
}

func (w *World) tell(u cache.Update) {
	b := cache.Batch{Revision: w.rev, Updates: []cache.Update{u}}
	if w.lag {
		w.held = append(w.held, b)
		return
	}
	w.feed(b)
}

// Do is client.Doer.
func (w *World) Do(_ context.Context, r client.Request) (kinds.Object, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil && r.Verb != client.Get {
		if err := w.refuse(r); err != nil {
			return nil, err
		}
	}
	got, err := w.do(r)
	if err == nil && r.Verb != client.Get {
		name := r.Name
		if got != nil && r.Verb == client.Create && r.Subresource == "" {
			name = got.GetName()
		}
		sub := ""
		if r.Subresource != "" {
			sub = "/" + r.Subresource
		}
		w.Log = append(w.Log, fmt.Sprintf("%s %s%s %s", r.Verb, r.Type.Plural, sub, types.NamespacedName{Namespace: r.Namespace, Name: name}))
	}
	if got == nil {
		return nil, err
	}
	return got.DeepCopyObject().(kinds.Object), err
}

func (w *World) do(r client.Request) (kinds.Object, error) {
	old := w.objects[r.Type.Key(r.Namespace, r.Name)]
	if r.Verb == client.Create && r.Subresource == "" {
		return w.create(r, old)
	}
	if old == nil {
		return nil, errs.New(errs.NotFound, "%s %q not found", r.Type.Plural, r.Name)
	}
	switch r.Verb {
	case client.Get:
		return old, nil
	case client.Create:
		return w.post(r, old)
	case client.Update:
		return w.replace(r, old)
	case client.Delete:
		return w.delete(r, old)
	}
	return nil, errs.New(errs.Unsupported, "the model has no %s", r.Verb)
}

func (w *World) create(r client.Request, old kinds.Object) (kinds.Object, error) {
	if old != nil && r.Name != "" {
		return nil, errs.New(errs.Exists, "%s %q already exists", r.Type.Plural, r.Name)
	}
	o := r.Object.DeepCopyObject().(kinds.Object)
	w.rev++
	if o.GetName() == "" {
		w.uids++
		o.SetName(fmt.Sprintf("%s%05d", o.GetGenerateName(), w.uids))
	}
	w.put(o, true)
	w.tell(w.update(o, false))
	return o, nil
}

func (w *World) post(r client.Request, old kinds.Object) (kinds.Object, error) {
	b, ok := r.Object.(*corev1.Binding)
	if !ok {
		return nil, errs.New(errs.Unsupported, "the model has no %s", r.Subresource)
	}
	p := old.DeepCopyObject().(*corev1.Pod)
	if p.Spec.NodeName != "" {
		return nil, errs.New(errs.Conflict, "pod %s is bound already", p.Name)
	}
	p.Spec.NodeName = b.Target.Name
	w.rev++
	w.put(p, false)
	w.tell(w.update(p, false))
	return nil, nil
}

func (w *World) replace(r client.Request, old kinds.Object) (kinds.Object, error) {
	if rv := r.Object.GetResourceVersion(); rv != "" && rv != old.GetResourceVersion() {
		return nil, errs.New(errs.Conflict, "%s %q has been modified", r.Type.Plural, r.Name)
	}
	o := r.Object.DeepCopyObject().(kinds.Object)
	o.SetUID(old.GetUID())
	switch r.Subresource {
	case "":
		r.Type.CopyStatus(o, old)
		if !r.Type.SpecEqual(o, old) {
			o.SetGeneration(old.GetGeneration() + 1)
		}
	case "status":
		kept := old.DeepCopyObject().(kinds.Object)
		r.Type.CopyStatus(kept, o)
		o = kept
	}
	w.rev++
	w.put(o, false)
	if o.GetDeletionTimestamp() != nil && finished(o) {
		w.remove(o)
		return o, nil
	}
	w.tell(w.update(o, false))
	return o, nil
}

// finished: nothing keeps a deleted object.
func finished(o kinds.Object) bool {
	ns, isNS := o.(*corev1.Namespace)
	p, isPod := o.(*corev1.Pod)
	return len(o.GetFinalizers()) == 0 && (!isNS || len(ns.Spec.Finalizers) == 0) && (!isPod || p.Spec.NodeName == "")
}

func (w *World) delete(r client.Request, old kinds.Object) (kinds.Object, error) {
	switch {
	case r.UID != "" && r.UID != old.GetUID():
		return nil, errs.New(errs.Conflict, "%s %q has another uid", r.Type.Plural, r.Name)
	case r.ResourceVersion != "" && r.ResourceVersion != old.GetResourceVersion():
		return nil, errs.New(errs.Conflict, "%s %q has been modified", r.Type.Plural, r.Name)
	case old.GetDeletionTimestamp() != nil && !finished(old) && (r.GracePeriod == nil || *r.GracePeriod > 0):
		return old, nil
	}
	o := old.DeepCopyObject().(kinds.Object)
	if r.Propagation == "Foreground" {
		o.SetFinalizers(append(o.GetFinalizers(), metav1.FinalizerDeleteDependents))
	}
	if p, ok := o.(*corev1.Pod); ok && r.GracePeriod != nil && *r.GracePeriod == 0 {
		p.Spec.NodeName = ""
	}
	if finished(o) {
		w.remove(old)
		return nil, nil
	}
	now := metav1.NewTime(w.Now())
	o.SetDeletionTimestamp(&now)
	w.rev++
	w.put(o, false)
	w.tell(w.update(o, false))
	return o, nil
}
