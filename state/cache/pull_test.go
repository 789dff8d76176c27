// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"iter"

	"github.com/knarr/knarr/internal/errs"
)

// iterPull reads a watch one change at a time.
func iterPull(seq iter.Seq2[Change, error]) (next func() (Change, error), stop func()) {
	pull, stop := iter.Pull2(seq)
	return func() (Change, error) {
		c, err, ok := pull()
		if !ok {
			return c, errs.New(errs.Unavailable, "the watch ended")
		}
		return c, err
	}, stop
}
