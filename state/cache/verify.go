// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"fmt"
	"hash/fnv"

	"github.com/knarr/knarr/internal/errs"
)

// sum fingerprints the object of e.
func sum(e *Entry) uint64 {
	h := fnv.New64a()
	b, err := Encode(e.Type, e.Object)
	if err != nil {
		return 0
	}
	h.Write(b)
	return h.Sum64()
}

// Verify finds objects that somebody wrote to although they are shared; it works with KNARR_VERIFY=1 only.
func (c *Cache) Verify() error {
	if !c.verify {
		return nil
	}
	s := c.Snapshot()
	for _, t := range s.Types() {
		for e := range s.List(t, "") {
			if err := e.verify(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *Entry) verify() error {
	if e.sum == sum(e) {
		return nil
	}
	return errs.New(errs.Conflict, "%s %s/%s was changed in the cache after revision %d: a reader wrote to a shared object",
		e.Type.Kind, e.Object.GetNamespace(), e.Object.GetName(), e.Revision)
}

// check is verify on the way out: an object is looked at once more when it is replaced.
func (c *Cache) check(e *Entry) {
	if err := e.verify(); err != nil {
		c.log.Error("a cached object was mutated", "err", fmt.Errorf("verify the cache: %w", err))
	}
}
