// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"strings"

	"github.com/knarr/knarr/kinds"
)

// folders find the kind of a key of the store: the inverse of kinds.Type.Key. A kind's folder has one or two parts
// ("pods", "services/specs", "stable.example.com/crontabs").
type folders map[string]*kinds.Type

func (f folders) parse(key string) (t *kinds.Type, ns, name string, ok bool) {
	t = f.of(key)
	if t == nil {
		return nil, "", "", false
	}
	rest := key[len(t.Prefix()):]
	if t.Cluster {
		return t, "", rest, rest != "" && !strings.Contains(rest, "/")
	}
	ns, name, ok = strings.Cut(rest, "/")
	return t, ns, name, ok && ns != "" && name != "" && !strings.Contains(name, "/")
}

func (f folders) of(key string) *kinds.Type {
	rest, ok := strings.CutPrefix(key, root)
	if !ok {
		return nil
	}
	end := len(root)
	for range 2 {
		i := strings.IndexByte(rest, '/')
		if i < 0 {
			return nil
		}
		end += i + 1
		if t := f[key[:end]]; t != nil {
			return t
		}
		rest = rest[i+1:]
	}
	return nil
}
