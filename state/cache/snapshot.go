// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"iter"
	"strings"

	"github.com/tidwall/btree"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/knarr/knarr/kinds"
)

// Snapshot is the state of all kinds at one revision. It never changes; it may be kept and read by many at once.
type Snapshot struct {
	held     *Kinds
	revision int64
	kinds    []table  // by number
	indexes  []*index // by position in Indexes
}

// table is the objects of one kind by "namespace/name", or "name" for kinds outside of namespaces: etcd's order.
type table struct {
	revision int64
	entries  *btree.Map[string, *Entry]
}

// Revision is how far the store had come: everything up to it is in the snapshot. Over list-watch it is that of the kind
// that is furthest behind.
func (s *Snapshot) Revision() int64 { return s.revision }

// RevisionOf is Revision for one kind; it differs only over list-watch.
func (s *Snapshot) RevisionOf(t *kinds.Type) int64 { return max(s.table(t).revision, s.revision) }

// Kinds are the kinds the snapshot holds.
func (s *Snapshot) Kinds() *Kinds { return s.held }

// Types are the kinds the snapshot holds: those that were given, in that order, then those defined at runtime, each by
// the version its objects are stored in.
func (s *Snapshot) Types() []*kinds.Type { return s.held.types }

// TypeOfKind finds a kind by group and name, in any version: what an owner reference says.
func (s *Snapshot) TypeOfKind(gk schema.GroupKind) (*kinds.Type, bool) {
	for _, t := range s.held.types {
		if t.GroupKind() == gk {
			return t, true
		}
	}
	return nil, false
}

// Get finds one object. Kinds outside of namespaces ignore ns.
func (s *Snapshot) Get(t *kinds.Type, ns, name string) (*Entry, bool) {
	return s.table(t).entries.Get(rowKey(t, ns, name))
}

// List yields the objects of a kind, ascending by "namespace/name"; ns "" means all namespaces.
func (s *Snapshot) List(t *kinds.Type, ns string) iter.Seq[*Entry] { return s.ListAfter(t, ns, "", "") }

// ListAfter is List from the first object after afterNS/afterName on, which need not exist: what limit and continue need.
func (s *Snapshot) ListAfter(t *kinds.Type, ns, afterNS, afterName string) iter.Seq[*Entry] {
	prefix := ""
	if ns != "" && !t.Cluster {
		prefix = ns + "/"
	}
	start := prefix
	if afterName != "" {
		start = rowKey(t, afterNS, afterName) + "\x00"
	}
	return scan(s.table(t).entries, prefix, start)
}

// Len is how many objects of a kind there are.
func (s *Snapshot) Len(t *kinds.Type) int { return s.table(t).entries.Len() }

// table is empty for a kind the snapshot does not hold.
func (s *Snapshot) table(t *kinds.Type) table {
	if n, ok := s.held.number[t.Prefix()]; ok {
		return s.kinds[n]
	}
	return table{entries: new(btree.Map[string, *Entry])}
}

func rowKey(t *kinds.Type, ns, name string) string {
	if t.Cluster {
		return name
	}
	return ns + "/" + name
}

// scan yields what has the prefix, from start on.
func scan(m *btree.Map[string, *Entry], prefix, start string) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		m.Ascend(max(start, prefix), func(key string, e *Entry) bool {
			return strings.HasPrefix(key, prefix) && yield(e)
		})
	}
}
