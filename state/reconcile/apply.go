// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/client"
)

// Recorder takes events; it must not block. events.Recorder is the real one.
type Recorder interface {
	Event(regarding kinds.Object, kind, reason, message string)
}

// applier carries plans out. It makes no choices.
type applier struct {
	doer    client.Doer
	events  Recorder
	manager string
	limit   chan struct{} // bounds the writes of all batches together

	mu    sync.Mutex // guards wrote
	wrote wrote
}

// batchLimit is how many writes of one controller are under way at once; etcd syncs them to disk together.
const batchLimit = 32

// apply does all that a plan says, in order; the first failure ends it.
func (a *applier) apply(ctx context.Context, p *Plan) error {
	if err := a.all(ctx, p.Actions); err != nil {
		return err
	}
	if p.Status != nil {
		return a.one(ctx, UpdateStatus{Object: p.Status})
	}
	return nil
}

func (a *applier) all(ctx context.Context, actions []Action) error {
	for _, x := range actions {
		if err := a.one(ctx, x); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) batch(ctx context.Context, actions []Action) error {
	var wg sync.WaitGroup
	failed := make([]error, len(actions))
	for i, x := range actions {
		if e, ok := x.(Event); ok {
			failed[i] = a.one(ctx, e)
			continue
		}
		a.limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-a.limit }()
			failed[i] = a.one(ctx, x)
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

func (a *applier) one(ctx context.Context, x Action) error {
	switch x := x.(type) {
	case Create:
		err := a.do(ctx, x.Object, client.Request{Verb: client.Create, Object: x.Object})
		if err != nil && x.Failed != nil && ctx.Err() == nil {
			a.events.Event(x.Failed.Regarding, x.Failed.Type, x.Failed.Reason, x.Failed.Message+": "+errors.Unwrap(err).Error())
		}
		if err != nil && x.Otherwise != nil && ctx.Err() == nil && !errors.Is(err, errs.Exists) {
			err = errors.Join(err, a.one(ctx, UpdateStatus{Object: x.Otherwise(errors.Unwrap(err))}))
		}
		return err
	case Update:
		return a.do(ctx, x.Object, client.Request{Verb: client.Update, Object: x.Object, Subresource: x.Subresource})
	case UpdateStatus:
		return a.do(ctx, x.Object, client.Request{Verb: client.Update, Object: x.Object, Subresource: "status"})
	case Post:
		return a.do(ctx, x.Object, client.Request{Verb: client.Create, Object: x.Body, Subresource: x.Subresource})
	case Delete:
		r := client.Request{Verb: client.Delete, UID: x.Object.GetUID(), Propagation: x.Propagation}
		if x.IfVersion {
			r.ResourceVersion = x.Object.GetResourceVersion()
		}
		if x.Now {
			r.GracePeriod = new(int64)
		}
		err := a.do(ctx, x.Object, r)
		if errors.Is(err, errs.NotFound) {
			return nil // what was wanted
		}
		return err
	case Event:
		a.events.Event(x.Regarding, x.Type, x.Reason, x.Message)
		return nil
	case Batch:
		return a.batch(ctx, x.Actions)
	}
	panic(fmt.Sprintf("reconcile: unknown action %T", x))
}

// do sends a request about obj and notes what it wrote.
func (a *applier) do(ctx context.Context, obj kinds.Object, r client.Request) error {
	r.Type = kinds.Of(obj)
	if r.Type == nil {
		return fmt.Errorf("%s %s: no kind for a %T", r.Verb, obj.GetName(), obj)
	}
	r.Namespace, r.Name, r.FieldManager = obj.GetNamespace(), obj.GetName(), a.manager
	got, err := a.doer.Do(ctx, r)
	if err != nil {
		what := string(r.Verb) + " " + r.Type.Singular
		if r.Subresource != "" {
			what += "/" + r.Subresource
		}
		name := obj.GetName()
		if name == "" {
			name = obj.GetGenerateName() + "*"
		}
		return fmt.Errorf("%s %s: %w", what, types.NamespacedName{Namespace: obj.GetNamespace(), Name: name}, err)
	}
	a.note(obj, got, r)
	return nil
}

func (a *applier) note(obj, got kinds.Object, r client.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Verb == client.Delete && obj.GetDeletionTimestamp() == nil {
		// The answer may be the last state of what is gone, or none: no revision to wait for.
		a.wrote.deleted = append(a.wrote.deleted, deleted{
			t: r.Type, key: Key{Namespace: obj.GetNamespace(), Name: obj.GetName()}, uid: obj.GetUID(), rev: obj.GetResourceVersion(),
		})
	}
	if got == nil {
		return
	}
	t := kinds.Of(got)
	rev, err := strconv.ParseInt(got.GetResourceVersion(), 10, 64)
	if err != nil || t == nil || t.Virtual {
		return
	}
	a.wrote.rev = max(a.wrote.rev, rev)
	for _, k := range a.wrote.kinds {
		if k == t {
			return
		}
	}
	a.wrote.kinds = append(a.wrote.kinds, t)
}
