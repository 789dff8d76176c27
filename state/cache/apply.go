// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"

	"github.com/tidwall/btree"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/knarr/knarr/kinds"
)

// apply makes the next snapshot from a batch and tells the watches. Only the source's goroutine calls it.
func (c *Cache) apply(b Batch) {
	e := edit{cache: c, s: c.now.Load().copy(), at: b.Revision, copied: map[any]bool{}}
	e.define(&b)
	first := e.first(b)
	back := b.Reset && !first && b.Revision < e.reached(b)
	if b.Reset && !first {
		// What was missed is told in the order of its revisions, so that a watch can go on after any of it.
		slices.SortFunc(b.Updates, func(x, y Update) int { return cmp.Compare(x.Revision, y.Revision) })
	}
	for i := range b.Updates {
		e.update(&b.Updates[i])
	}
	if b.Reset {
		e.removeAbsent(b, e.s.Types())
	} else if len(b.Define) > 0 {
		e.removeAbsent(b, e.redefined)
	}
	e.reach(b)
	if first || back {
		// A first reading is no change, and a store that went back in time has no history we know.
		c.now.Store(e.s)
		for _, t := range e.s.Types() {
			if b.Type == nil || b.Type == t {
				c.history.forget(e.s.held.number[t.Prefix()], b.Revision)
			}
		}
		c.history.publish(nil, e.s)
	} else {
		c.now.Store(e.s)
		c.history.publish(e.changes, e.s)
	}
	if e.s.complete() {
		c.once.Do(func() { close(c.ready) })
	}
}

// edit is a snapshot in the making.
type edit struct {
	cache   *Cache
	s       *Snapshot
	at      int64        // the batch's revision
	copied  map[any]bool // the trees that belong to s alone
	changes []numbered

	redefined []*kinds.Type // whose objects are read anew
	ended     []*kinds.Type // that are no kinds any more
	numbers   []int         // of both
}

// define makes the kinds of the batch those of the snapshot.
func (e *edit) define(b *Batch) {
	if len(b.Define) == 0 {
		return
	}
	before := e.s.held
	e.s.held = before.with(b.Define)
	for len(e.s.kinds) < len(e.s.held.number) {
		e.s.kinds = append(e.s.kinds, table{entries: new(btree.Map[string, *Entry]), revision: b.Revision})
	}
	for _, d := range b.Define {
		n, ok := e.s.held.number[d.Folder]
		if !ok {
			continue // it never was one
		}
		e.numbers = append(e.numbers, n)
		if d.Definition != nil {
			e.redefined = append(e.redefined, d.Definition.Versions[0])
		} else if had := before.defined[d.Folder]; had != nil {
			e.ended = append(e.ended, had.Versions[0])
		}
	}
	// What is no kind any more has no objects.
	e.removeAbsent(*b, e.ended)
	e.cache.history.define(len(e.s.kinds), e.numbers, b.Revision)
}

func (s *Snapshot) copy() *Snapshot {
	n := *s
	n.kinds = append([]table(nil), s.kinds...)
	n.indexes = append([]*index(nil), s.indexes...)
	return &n
}

// complete: every kind has been read.
func (s *Snapshot) complete() bool {
	for _, k := range s.kinds {
		if k.revision == 0 {
			return false
		}
	}
	return true
}

func (e *edit) first(b Batch) bool { return b.Reset && e.reached(b) == 0 }

// reached is how far the kinds of a batch had come before it.
func (e *edit) reached(b Batch) int64 {
	if b.Type == nil {
		return e.s.revision
	}
	return e.s.kinds[e.s.held.number[b.Type.Prefix()]].revision
}

// reach notes how far the kinds have come.
func (e *edit) reach(b Batch) {
	if b.Type != nil {
		e.s.kinds[e.s.held.number[b.Type.Prefix()]].revision = b.Revision
		e.s.revision = e.s.kinds[0].revision
		for _, k := range e.s.kinds {
			e.s.revision = min(e.s.revision, k.revision)
		}
		return
	}
	for n := range e.s.kinds {
		e.s.kinds[n].revision = b.Revision
	}
	e.s.revision = b.Revision
}

// removeAbsent removes the objects of types that are not among the batch's.
func (e *edit) removeAbsent(b Batch, types []*kinds.Type) {
	here := make(map[string]map[string]bool, len(types))
	for _, u := range b.Updates {
		rows := here[u.Type.Prefix()]
		if rows == nil {
			rows = map[string]bool{}
			here[u.Type.Prefix()] = rows
		}
		rows[rowKey(u.Type, u.Namespace, u.Name)] = true
	}
	for _, t := range types {
		if b.Type != nil && b.Type != t {
			continue
		}
		for old := range e.s.List(t, "") {
			if !here[t.Prefix()][rowKey(t, old.Object.GetNamespace(), old.Object.GetName())] {
				e.update(&Update{Type: t, Namespace: old.Object.GetNamespace(), Name: old.Object.GetName(), Revision: b.Revision})
			}
		}
	}
}

func (e *edit) update(u *Update) {
	n, ok := e.s.held.number[u.Type.Prefix()]
	if !ok {
		return
	}
	row := rowKey(u.Type, u.Namespace, u.Name)
	old, _ := e.s.kinds[n].entries.Get(row)
	silent := false // the same object, seen by a new definition
	switch {
	case old != nil && u.Object != nil && old.Revision == u.Revision && slices.Contains(e.numbers, n):
		silent = true
	case old == nil && u.Object == nil, old != nil && u.Object != nil && old.Revision == u.Revision:
		return
	case old != nil && e.cache.verify:
		e.cache.check(old)
	}
	k := &e.s.kinds[n]
	k.entries = own(e, k.entries)
	ch := Change{Revision: u.Revision}
	if slices.Contains(e.numbers, n) {
		ch.Revision = e.at // when it was seen; the object may be older than its definition
	}
	if u.Object != nil {
		ch.New = e.cache.entry(u)
		k.entries.Set(row, ch.New)
		ch.Old = old
	} else {
		k.entries.Delete(row)
		ch.Old = tombstone(old, u.Revision)
	}
	e.reindex(u.Type, row, old, ch.New)
	if silent {
		return
	}
	e.changes = append(e.changes, numbered{n, ch})
}

// own makes a tree the edit's own: a copy the first time, that shares all nodes until they are written.
func own[M interface{ Copy() M }](e *edit, m M) M {
	if e.copied[m] {
		return m
	}
	m = m.Copy()
	e.copied[m] = true
	return m
}

func (e *edit) reindex(t *kinds.Type, row string, old, new *Entry) {
	for i := range indexed {
		var was, is []string
		if old != nil {
			was = indexed[i].values(old.Object)
		}
		if new != nil {
			is = indexed[i].values(new.Object)
		}
		if len(was) == 0 && len(is) == 0 {
			continue
		}
		e.s.indexes[i] = own(e, e.s.indexes[i])
		for _, v := range was {
			e.s.indexes[i].Delete(indexKey(v, t, row))
		}
		for _, v := range is {
			e.s.indexes[i].Set(indexKey(v, t, row), new)
		}
	}
}

func (c *Cache) entry(u *Update) *Entry {
	u.Object.SetResourceVersion(strconv.FormatInt(u.Revision, 10))
	u.Object.GetObjectKind().SetGroupVersionKind(u.Type.GroupVersionKind)
	e := &Entry{Type: u.Type, Object: u.Object, Revision: u.Revision, CreateRevision: u.CreateRevision}
	if c.verify {
		e.sum = sum(e)
	}
	return e
}

// tombstone is the last state of a deleted object, at the revision of its deletion.
func tombstone(old *Entry, rev int64) *Entry {
	obj := shallow(old.Object)
	obj.SetResourceVersion(strconv.FormatInt(rev, 10))
	return &Entry{Type: old.Type, Object: obj, Revision: rev, CreateRevision: old.CreateRevision}
}

// shallow copies an object so far that its metadata's own fields can be set: all below is shared.
func shallow(o kinds.Object) kinds.Object {
	if c, ok := o.(*kinds.Custom); ok {
		return c.Shallow()
	}
	if _, ok := o.(runtime.Unstructured); ok {
		return o.DeepCopyObject().(kinds.Object) // its metadata is below
	}
	from := reflect.ValueOf(o).Elem()
	to := reflect.New(from.Type())
	to.Elem().Set(from)
	return to.Interface().(kinds.Object)
}
