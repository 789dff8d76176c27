// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"encoding/json"
	"reflect"
	"time"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/journal"
	"github.com/knarr/knarr/state/store"
)

// Journal knows who wrote which revision of a key; *journal.Journal is one.
type Journal interface {
	Note(journal.Entry) error
	Of(key string) (map[int64]journal.Entry, error)
}

// What a revision did to its object.
const (
	Created    = "create"
	Updated    = "update"
	StatusOnly = "status" // the status alone
	Deleted    = "delete"
	// Found is the oldest state that is still known: how it came about is forgotten.
	Found = "found"
)

// Revision is one state of an object in its past.
type Revision struct {
	Revision int64     `json:"revision"`
	Verb     string    `json:"verb"`
	Time     time.Time `json:"time,omitzero"`     // zero: not known
	User     string    `json:"user,omitempty"`    // who was authenticated; "": not known
	Manager  string    `json:"manager,omitempty"` // the field manager: the program
	Fault    string    `json:"fault,omitempty"`   // why the object cannot be read
	// Object is what it was, of the hub version or, for a kind defined at runtime, the one it was written in; for a deletion
	// nil.
	Object kinds.Object `json:"-"`
}

// History is all that is still known of one object's past.
type History struct {
	Revisions []Revision // oldest first
	Oldest    int64      // what was before it is forgotten
	Revision  int64      // the revision that was read
}

// History reads an object's past from the store. An object that has none is not found.
func (c *Core) History(ctx context.Context, r Request) (History, error) {
	h, err := c.history(ctx, &r)
	if err != nil {
		return History{}, Status(err)
	}
	return h, nil
}

func (c *Core) history(ctx context.Context, r *Request) (History, error) {
	if r.Type.Virtual {
		return History{}, methodNotSupported(r)
	}
	key := r.Type.Key(r.Namespace, r.Name)
	past, err := store.History(ctx, c.Store, key)
	if err != nil {
		return History{}, err
	}
	if len(past.Versions) == 0 {
		return History{}, notFound(r)
	}
	var noted map[int64]journal.Entry
	if c.Journal != nil {
		if noted, err = c.Journal.Of(key); err != nil {
			c.log.Warn("read who wrote an object", "key", key, "err", err)
		}
	}
	h := History{Oldest: past.Oldest, Revision: past.Revision}
	var before kinds.Object
	for i := range past.Versions {
		v := &past.Versions[i]
		x := Revision{Revision: v.ModRevision}
		if !v.Deleted {
			if e, err := decode(r.Type, &v.KV); err != nil {
				x.Fault = err.Error()
			} else {
				x.Object = e.Object
			}
		}
		x.describe(v, before, i == 0 && v.ModRevision <= past.Oldest)
		if e, ok := noted[x.Revision]; ok {
			x.Time, x.User = e.Time, e.User
			if e.Manager != "" {
				x.Manager = e.Manager
			}
		}
		h.Revisions = append(h.Revisions, x)
		if before = x.Object; v.Deleted {
			before = nil
		}
	}
	return h, nil
}

// describe says what the objects themselves tell: what was done, by which program and when.
func (x *Revision) describe(v *store.Version, before kinds.Object, first bool) {
	switch {
	case v.Deleted:
		x.Verb = Deleted
		return
	case v.CreateRevision == v.ModRevision:
		x.Verb = Created
	case first || before == nil:
		x.Verb = Found
	case x.Object != nil && sameContent(before, x.Object):
		x.Verb = StatusOnly
	default:
		x.Verb = Updated
	}
	if x.Object == nil {
		return
	}
	x.Manager, x.Time = newestManager(x.Object)
	if _, then := newestManager(before); x.Verb != Created && then.Equal(x.Time) && before != nil {
		x.Manager, x.Time = "", time.Time{} // the book of managers was not touched: somebody older is in it
	}
	if x.Verb == Created && x.Time.IsZero() {
		x.Time = x.Object.GetCreationTimestamp().Time
	}
}

// newestManager is who set fields last, as far as the book of managers tells.
func newestManager(o kinds.Object) (name string, at time.Time) {
	if o == nil {
		return "", time.Time{}
	}
	for _, m := range o.GetManagedFields() {
		if m.Time != nil && !m.Time.Time.Before(at) {
			name, at = m.Manager, m.Time.Time
		}
	}
	return name, at
}

// bookkeeping is the metadata that the server keeps for itself: two objects that differ in nothing else have the same content.
var bookkeeping = [...]string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"}

// content is what people care about in an object: everything but status and bookkeeping.
func content(o kinds.Object) (map[string]any, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	delete(m, "status")
	if meta, ok := m["metadata"].(map[string]any); ok {
		for _, k := range bookkeeping {
			delete(meta, k)
		}
	}
	return m, nil
}

func sameContent(a, b kinds.Object) bool {
	x, errX := content(a)
	y, errY := content(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}

// remember tells the journal of a write. Heartbeats and events are not worth the room.
func (c *Core) remember(r *Request, rev int64, name string) {
	if c.Journal == nil || r.Type.Plural == "leases" || r.Type.Plural == "events" {
		return
	}
	err := c.Journal.Note(journal.Entry{
		Revision: rev, Time: c.Now().UTC(), User: r.User.Name, Manager: r.FieldManager, Key: r.Type.Key(r.Namespace, name),
	})
	if err != nil {
		c.log.Warn("the journal of writes has a gap: history will not say who wrote this", "rev", rev, "err", err)
	}
}

// At is the state of revision rev; nil when rev is none of the history's.
func (h History) At(rev int64) *Revision {
	for i := range h.Revisions {
		if h.Revisions[i].Revision == rev {
			return &h.Revisions[i]
		}
	}
	return nil
}

// before is the revision that undo goes back to when none was named: of an object that is gone, the last before somebody
// asked for its deletion; else the last whose content is another than now.
func (h History) before() (*Revision, error) {
	last := h.Revisions[len(h.Revisions)-1]
	var dying *Revision
	for i := len(h.Revisions) - 2; i >= 0; i-- {
		x := &h.Revisions[i]
		switch {
		case x.Object == nil:
			if last.Verb == Deleted && dying != nil {
				return dying, nil
			}
		case last.Verb != Deleted:
			if last.Object == nil || !sameContent(x.Object, last.Object) {
				return x, nil
			}
		case x.Object.GetDeletionTimestamp() == nil:
			return x, nil
		case dying == nil:
			dying = x
		}
	}
	if dying != nil {
		return dying, nil
	}
	return nil, errs.New(errs.Gone, "there is nothing to go back to: what was before revision %d is forgotten", h.Oldest)
}

// readable is x in the version a request is about.
func (c *Core) readable(ctx context.Context, r *Request, x *Revision) (kinds.Object, error) {
	if x.Object == nil {
		return nil, errs.New(errs.Invalid, "revision %d cannot be read: %s", x.Revision, x.Fault)
	}
	e, err := c.inVersion(ctx, r.Type, &cache.Entry{Type: r.Type, Object: x.Object, Revision: x.Revision})
	if err != nil {
		return nil, err
	}
	return e.Object, nil
}

// Readable is the object of a revision in version r.Version.
func (c *Core) Readable(ctx context.Context, r Request, x *Revision) (kinds.Object, error) {
	o, err := c.readable(ctx, &r, x)
	if err != nil {
		return nil, err
	}
	return ToVersion(o, r.Version), nil
}
