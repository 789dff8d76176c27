// SPDX-License-Identifier: Apache-2.0

package kubelettest

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

// FakeAPI is a Doer on a map and the Source of a cache: versions, conflicts, the status subresource and graceful
// deletion are as the API server does them.
type FakeAPI struct {
	Cache *cache.Cache

	mu      sync.Mutex // guards what follows
	rev     int64
	objects map[string]kinds.Object
	pending []cache.Batch
	wake    chan struct{}
	down    error
}

// NewAPI makes an empty API; run Cache.Run.
func NewAPI(log *slog.Logger) *FakeAPI {
	a := &FakeAPI{rev: 1, objects: map[string]kinds.Object{}, wake: make(chan struct{}, 1)}
	a.Cache = cache.New(a, kinds.All, cache.Options{}, log)
	return a
}

// Run feeds the cache.
func (a *FakeAPI) Run(ctx context.Context, feed func(cache.Batch)) error {
	a.mu.Lock()
	first := cache.Batch{Revision: a.rev, Reset: true}
	for _, o := range a.objects {
		first.Updates = append(first.Updates, cache.Update{Type: kinds.Of(o), Namespace: o.GetNamespace(), Name: o.GetName(), Object: clone(o), Revision: rev(o)})
	}
	a.pending = nil
	a.mu.Unlock()
	feed(first)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-a.wake:
		}
		a.mu.Lock()
		batches := a.pending
		a.pending = nil
		a.mu.Unlock()
		for _, b := range batches {
			feed(b)
		}
	}
}

// Progress implements cache.Source.
func (a *FakeAPI) Progress(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.emit(cache.Batch{Revision: a.rev})
	return nil
}

func (a *FakeAPI) emit(b cache.Batch) {
	a.pending = append(a.pending, b)
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// SetDown has every request fail with err; nil mends it.
func (a *FakeAPI) SetDown(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = err
}

func clone(o kinds.Object) kinds.Object { return o.DeepCopyObject().(kinds.Object) }

func rev(o kinds.Object) int64 {
	n, _ := strconv.ParseInt(o.GetResourceVersion(), 10, 64)
	return n
}

// Put writes an object as the API server would store it.
func (a *FakeAPI) Put(o kinds.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.store(clone(o))
}

// Remove takes an object away at once.
func (a *FakeAPI) Remove(o kinds.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(kinds.Of(o), o.GetNamespace(), o.GetName())
}

func (a *FakeAPI) store(o kinds.Object) kinds.Object {
	a.rev++
	t := kinds.Of(o)
	if o.GetUID() == "" {
		o.SetUID(types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", a.rev)))
	}
	o.SetResourceVersion(strconv.FormatInt(a.rev, 10))
	a.objects[t.Key(o.GetNamespace(), o.GetName())] = o
	a.emit(cache.Batch{Revision: a.rev, Updates: []cache.Update{{Type: t, Namespace: o.GetNamespace(), Name: o.GetName(), Object: clone(o), Revision: a.rev}}})
	return clone(o)
}

func (a *FakeAPI) drop(t *kinds.Type, ns, name string) {
	a.rev++
	delete(a.objects, t.Key(ns, name))
	a.emit(cache.Batch{Revision: a.rev, Updates: []cache.Update{{Type: t, Namespace: ns, Name: name, Revision: a.rev}}})
}

// Do implements client.Doer.
func (a *FakeAPI) Do(_ context.Context, r client.Request) (kinds.Object, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down != nil {
		return nil, a.down
	}
	if r.Subresource == "token" {
		t := r.Object.(*authenticationv1.TokenRequest).DeepCopy()
		t.Status = authenticationv1.TokenRequestStatus{Token: "token-of-" + r.Name, ExpirationTimestamp: metav1.NewTime(time.Now().Add(time.Duration(*t.Spec.ExpirationSeconds) * time.Second))}
		return t, nil
	}
	old := a.objects[r.Type.Key(r.Namespace, r.Name)]
	if old == nil && r.Verb != client.Create {
		return nil, errs.New(errs.NotFound, "%s %q not found", r.Type.Plural, r.Name)
	}
	switch r.Verb {
	case client.Get:
		return clone(old), nil
	case client.Create:
		if old != nil {
			return nil, errs.New(errs.Exists, "%s %q already exists", r.Type.Plural, r.Name)
		}
		return a.store(clone(r.Object)), nil
	case client.Update:
		return a.update(r, old)
	case client.Delete:
		return a.delete(r, old)
	}
	return nil, errs.New(errs.Unsupported, "the fake API has no %s", r.Verb)
}

func (a *FakeAPI) update(r client.Request, old kinds.Object) (kinds.Object, error) {
	if v := r.Object.GetResourceVersion(); v != "" && v != old.GetResourceVersion() {
		return nil, errs.New(errs.Conflict, "%s %q has been modified", r.Type.Plural, r.Name)
	}
	n := clone(r.Object)
	if r.Subresource == "status" {
		n = clone(old)
		r.Type.CopyStatus(n, clone(r.Object))
	} else if r.Type.HasStatus {
		r.Type.CopyStatus(n, old)
	}
	return a.store(n), nil
}

func (a *FakeAPI) delete(r client.Request, old kinds.Object) (kinds.Object, error) {
	if r.UID != "" && r.UID != old.GetUID() {
		return nil, errs.New(errs.Conflict, "the UID in the precondition (%s) does not match %s", r.UID, old.GetUID())
	}
	grace := int64(30)
	if p, ok := old.(*corev1.Pod); ok {
		if p.Spec.TerminationGracePeriodSeconds != nil {
			grace = *p.Spec.TerminationGracePeriodSeconds
		}
	} else {
		grace = 0
	}
	if r.GracePeriod != nil {
		grace = *r.GracePeriod
	}
	if grace == 0 && len(old.GetFinalizers()) == 0 {
		a.drop(r.Type, r.Namespace, r.Name)
		return clone(old), nil
	}
	n := clone(old)
	at := metav1.NewTime(time.Now().Add(time.Duration(grace) * time.Second))
	n.SetDeletionTimestamp(&at)
	n.SetDeletionGracePeriodSeconds(&grace)
	return a.store(n), nil
}

// Get reads an object.
func Get[T any](a *FakeAPI, ns, name string) (*T, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o, ok := a.objects[kinds.For[T]().Key(ns, name)]
	if !ok {
		return nil, false
	}
	return any(clone(o)).(*T), true
}
