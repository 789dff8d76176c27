// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"iter"

	"github.com/tidwall/btree"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/kinds"
)

// Index names a way to find objects other than by name.
type Index string

// The indexes; Indexes says what they hold.
const (
	ByOwner Index = "metadata.ownerReferences.uid" // all kinds: the UIDs of its owners
	ByNode  Index = "spec.nodeName"                // Pod: the node it is bound to; "" for unbound ones
)

// values gives the values under which an object is found in an index.
type values func(kinds.Object) []string

// indexed is the one list of indexes. To add one is a line here; its cost is a tree entry for each object and value.
var indexed = [...]struct {
	name   Index
	values values
}{
	{ByOwner, ownerUIDs},
	{ByNode, nodeName},
}

// NoOwner is the value under which ByOwner has pods that belong to nobody: what controllers look for to adopt.
const NoOwner = ""

func ownerUIDs(o kinds.Object) []string {
	refs := o.GetOwnerReferences()
	if len(refs) == 0 {
		if _, ok := o.(*corev1.Pod); ok {
			return []string{NoOwner}
		}
		return nil
	}
	uids := make([]string, len(refs))
	for i := range refs {
		uids[i] = string(refs[i].UID)
	}
	return uids
}

func nodeName(o kinds.Object) []string {
	if p, ok := o.(*corev1.Pod); ok {
		return []string{p.Spec.NodeName}
	}
	return nil
}

// index maps value NUL resource NUL row to the object.
type index = btree.Map[string, *Entry]

// ByIndex yields the objects of one kind that have the value in an index, ascending by namespace and name.
func (s *Snapshot) ByIndex(t *kinds.Type, ix Index, value string) iter.Seq[*Entry] {
	return s.scanIndex(ix, value+"\x00"+t.Plural+"."+t.Group+"\x00")
}

// OwnedBy yields the objects of all kinds that name uid as an owner.
func (s *Snapshot) OwnedBy(uid types.UID) iter.Seq[*Entry] {
	return s.scanIndex(ByOwner, string(uid)+"\x00")
}

func (s *Snapshot) scanIndex(ix Index, prefix string) iter.Seq[*Entry] {
	for i := range indexed {
		if indexed[i].name == ix {
			return scan(s.indexes[i], prefix, prefix)
		}
	}
	return func(func(*Entry) bool) {}
}

func indexKey(value string, t *kinds.Type, row string) string {
	return value + "\x00" + t.Plural + "." + t.Group + "\x00" + row
}
