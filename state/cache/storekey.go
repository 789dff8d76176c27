// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"strings"

	"github.com/knarr/knarr/kinds"
)

// parse says what a key of the store names: the inverse of kinds.Type.Key.
func (s *storeSource) parse(key string) (t *kinds.Type, ns, name string, ok bool) {
	for _, t := range s.types {
		rest, ok := strings.CutPrefix(key, t.Prefix())
		if !ok {
			continue
		}
		if t.Cluster {
			return t, "", rest, rest != "" && !strings.Contains(rest, "/")
		}
		ns, name, ok := strings.Cut(rest, "/")
		return t, ns, name, ok && ns != "" && name != "" && !strings.Contains(name, "/")
	}
	return nil, "", "", false
}
