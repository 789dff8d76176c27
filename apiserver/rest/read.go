// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"strconv"
	"time"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/store"
)

// get reads one object as the store has it now; with resourceVersion "0" as the cache has it.
func (c *Core) get(ctx context.Context, r *Request) (*cache.Entry, error) {
	if r.ResourceVersion == "0" {
		if e, ok := c.Cache.Snapshot().Get(r.Type, r.Namespace, r.Name); ok {
			return e, nil
		}
	}
	e, ok, err := c.Find(ctx, r.Type, r.Namespace, r.Name)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound(r)
	}
	return e, nil
}

// Find reads one object as the store has it now. It is the cache's entry when that is current, so its encodings are shared.
func (c *Core) Find(ctx context.Context, t *kinds.Type, namespace, name string) (*cache.Entry, bool, error) {
	kv, ok, _, err := c.Store.Get(ctx, t.Key(namespace, name))
	if err != nil || !ok {
		return nil, false, err
	}
	if e, ok := c.Cache.Snapshot().Get(t, namespace, name); ok && e.Revision == kv.ModRevision {
		return e, true, nil
	}
	e, err := decode(t, &kv)
	return e, err == nil, err
}

// lookup is what admission sees: an object in the cache is good enough, because the transaction demands its revision.
type lookup struct{ *Core }

func (c lookup) Find(ctx context.Context, t *kinds.Type, namespace, name string) (*cache.Entry, bool, error) {
	if e, ok := c.Cache.Snapshot().Get(t, namespace, name); ok {
		return e, true, nil
	}
	return c.Core.Find(ctx, t, namespace, name)
}

// appearWithin is how long Await waits: a new namespace's default account takes its controller a moment.
const appearWithin = 2 * time.Second

func (c lookup) Await(ctx context.Context, t *kinds.Type, namespace, name string) (*cache.Entry, bool, error) {
	from := c.Cache.Snapshot().Revision()
	e, ok, err := c.Find(ctx, t, namespace, name)
	if ok || err != nil {
		return e, ok, err
	}
	waiting, done := context.WithTimeout(ctx, appearWithin)
	defer done()
	for change, err := range c.Cache.Watch(waiting, t, from) {
		if err != nil {
			return nil, false, err
		}
		if e := change.New; e != nil && e.Object.GetNamespace() == namespace && e.Object.GetName() == name {
			return e, true, nil
		}
	}
	return nil, false, ctx.Err()
}

// decode makes an entry of what the store has: used where the cache is behind or the past is asked for.
func decode(t *kinds.Type, kv *store.KV) (*cache.Entry, error) {
	obj, err := cache.Decode(t, kv.Value)
	if err != nil {
		return nil, err
	}
	obj.SetResourceVersion(strconv.FormatInt(kv.ModRevision, 10))
	return &cache.Entry{Type: t, Object: obj, Revision: kv.ModRevision, CreateRevision: kv.CreateRevision}, nil
}

// copyOf is a deep copy: an object of our own to write to.
func copyOf(o kinds.Object) kinds.Object { return o.DeepCopyObject().(kinds.Object) }
