// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"context"
	"errors"
	"strconv"

	"github.com/knarr/knarr/apiserver/admission"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/store"
)

// stored encodes an entry as the store has it, at most once.
const storedForm cache.Encoding = "stored"

// decision is what to do with the current object.
type decision struct {
	next   kinds.Object // what it becomes; nil deletes it
	demand []*cache.Entry
	also   []admission.Also
	wished []string // the claims the client chose himself
	keep   bool     // write nothing; next is the answer
}

// revise reads an object, lets decide say what becomes of it and writes that, until nobody came in between. decide may be
// called several times, first perhaps with an object that is behind; what it returns counts only for the current one.
func (c *Core) revise(ctx context.Context, r *Request, decide func(old *cache.Entry) (decision, error)) (Answer, error) {
	old, _ := c.Cache.Snapshot().Get(r.Type, r.Namespace, r.Name)
	fresh := false
	for {
		if old == nil {
			e, ok, err := c.Find(ctx, r.Type, r.Namespace, r.Name)
			if err != nil {
				return Answer{}, err
			}
			if !ok {
				return Answer{}, notFound(r)
			}
			old, fresh = e, true
		}
		view, err := c.inVersion(ctx, r.Type, old)
		if err != nil {
			return Answer{}, err
		}
		d, err := decide(view)
		if (err != nil || d.keep) && !fresh {
			if now, ok, err := c.Find(ctx, r.Type, r.Namespace, r.Name); err == nil && ok && now.Revision == old.Revision {
				fresh = true
			} else {
				old = nil
				continue
			}
		}
		if err != nil {
			return Answer{}, err
		}
		if d.keep {
			return Answer{Object: d.next, Entry: view}, nil
		}
		a, again, err := c.commit(ctx, r, old, view, d)
		if err != nil || again == nil {
			return a, err
		}
		old, fresh = again, true
	}
}

// commit writes a decision about old. again is the object to decide about anew after a lost race.
// view is old in the version of the request.
func (c *Core) commit(ctx context.Context, r *Request, old, view *cache.Entry, d decision) (a Answer, again *cache.Entry, err error) {
	key := r.Type.Key(r.Namespace, r.Name)
	w := write{key: key, kind: r.Type, revision: old.Revision, demand: d.demand, also: d.also, old: old.Object, next: d.next}
	if d.next != nil {
		if same, err := w.encode(ctx, old); err != nil {
			return Answer{}, nil, err
		} else if same {
			return Answer{Object: view.Object, Entry: view}, nil, nil
		}
	}
	if r.DryRun {
		if d.next == nil {
			return Answer{Object: view.Object, Deleted: true}, nil, nil
		}
		d.next.SetResourceVersion(old.Object.GetResourceVersion())
		return Answer{Object: d.next}, nil, nil
	}
	if frees(r, d.next) {
		ctx = store.Freeing(ctx)
	}
	rev, err := c.put(ctx, &w)
	var lost *lostRace
	switch {
	case errors.As(err, &lost) && lost.now == nil && lost.key == key:
		return Answer{}, nil, notFound(r)
	case errors.As(err, &lost) && lost.key == key:
		again, err = decode(r.Type, lost.now)
		return Answer{}, again, err
	case errors.As(err, &lost):
		if err := claimLost(r, d.next, d.wished, lost.key); err != nil {
			return Answer{}, nil, err
		}
		again, ok, err := c.Find(ctx, r.Type, r.Namespace, r.Name)
		if err == nil && !ok {
			err = notFound(r)
		}
		return Answer{}, again, err
	case err != nil:
		return Answer{}, nil, err
	}
	c.remember(r, rev, r.Name)
	if d.next == nil {
		last := copyOf(view.Object)
		last.SetResourceVersion(strconv.FormatInt(rev, 10))
		return Answer{Object: last, Deleted: true}, nil, nil
	}
	d.next.SetResourceVersion(strconv.FormatInt(rev, 10))
	return Answer{Object: d.next}, nil, nil
}

// frees: a deletion or a step towards one, or a heartbeat, without which nodes that live would be given up.
func frees(r *Request, next kinds.Object) bool {
	return next == nil || next.GetDeletionTimestamp() != nil || r.Type.Plural == "leases" || r.Type.Plural == "nodes"
}

// write is one object's change, ready for the store.
type write struct {
	key       string
	kind      *kinds.Type
	revision  int64 // that must be stored now; 0: nothing
	demand    []*cache.Entry
	also      []admission.Also
	old, next kinds.Object
	value     []byte
}

// encode fills in value and reports whether it is what is stored already.
func (w *write) encode(ctx context.Context, old *cache.Entry) (same bool, err error) {
	stored, err := toStore(ctx, w.next)
	if err != nil {
		return false, err
	}
	if w.value, err = cache.Encode(w.kind, stored); err != nil {
		return false, err
	}
	before, err := old.Encoded(storedForm, func() ([]byte, error) { return cache.Encode(w.kind, old.Object) })
	return err == nil && bytes.Equal(before, w.value), nil
}

// lostRace says which key was not as demanded, and what it is now.
type lostRace struct {
	key string
	now *store.KV // nil: it does not exist
}

func (e *lostRace) Error() string { return e.key + ": " + modified }

// put writes w with all it depends on and all it claims, in one transaction.
func (c *Core) put(ctx context.Context, w *write) (int64, error) {
	conds := []store.Cond{{Key: w.key, ModRevision: w.revision}}
	for _, e := range w.demand {
		conds = append(conds, store.Cond{Key: e.Type.Key(e.Object.GetNamespace(), e.Object.GetName()), ModRevision: e.Revision})
	}
	op := store.Op{Key: w.key, Value: w.value, Delete: w.next == nil}
	more, ops := claimed(w.old, w.next)
	for _, a := range w.also {
		key := a.Was.Type.Key(a.Next.GetNamespace(), a.Next.GetName())
		value, err := cache.Encode(a.Was.Type, a.Next)
		if err != nil {
			return 0, err
		}
		conds = append(conds, store.Cond{Key: key, ModRevision: a.Was.Revision})
		ops = append(ops, store.Op{Key: key, Value: value})
	}
	rev, failed, err := c.Store.Txn(ctx, append(conds, more...), append(ops, op))
	if err != nil {
		return 0, err
	}
	if len(failed) == 0 {
		return rev, nil
	}
	for i := range failed {
		if failed[i].Key == w.key {
			return 0, lost(&failed[i])
		}
	}
	if err := c.catchUp(ctx, failed[0].Key); err != nil {
		return 0, err
	}
	return 0, lost(&failed[0])
}

func lost(kv *store.KV) error {
	if kv.ModRevision == 0 {
		kv = &store.KV{Key: kv.Key}
		return &lostRace{key: kv.Key}
	}
	return &lostRace{key: kv.Key, now: kv}
}

// catchUp waits until the cache knows what the store knew about key just now: deciding again before would lose again.
func (c *Core) catchUp(ctx context.Context, key string) error {
	_, _, rev, err := c.Store.Get(ctx, key)
	if err != nil {
		return err
	}
	_, err = c.Cache.Wait(ctx, rev)
	return err
}

// admissionRequest is r as admission sees it.
func (c *Core) admissionRequest(r *Request, verb admission.Verb, obj, old kinds.Object) *admission.Request {
	return &admission.Request{
		User: r.User, Verb: verb, Type: r.Type, Namespace: r.Namespace, Name: r.Name, Subresource: r.Subresource,
		Object: obj, Old: old, DryRun: r.DryRun, Warn: r.Warn, Lookup: lookup{c},
		Version: r.Version,
		Options: admission.Options{
			FieldManager: r.FieldManager, FieldValidation: r.Validation, GracePeriod: r.GracePeriod, Propagation: r.Propagation,
		},
	}
}
