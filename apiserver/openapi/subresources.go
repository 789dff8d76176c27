// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/knarr/knarr/apiserver/rest"
	"github.com/knarr/knarr/kinds"
)

// subresource is a part of an object, or an order given to it.
type subresource struct {
	name    string
	kind    schema.GroupVersionKind // of the body or the options; empty: the object's own
	verbs   []string                // "get", "create", "update", "patch"
	connect bool                    // a stream or text, not an object: log, exec, portforward
}

// subresources are those the type itself tells of, those apiserver/rest answers, and the ways to the node.
func subresources(t *kinds.Type) []subresource {
	var out []subresource
	if t.HasStatus {
		out = append(out, subresource{name: "status", verbs: []string{"get", "patch", "update"}})
	}
	for _, s := range rest.Subresources(t) {
		verbs := []string{}
		for _, v := range s.Verbs {
			verbs = append(verbs, string(v))
		}
		out = append(out, subresource{name: s.Name, kind: s.Kind, verbs: verbs})
	}
	for _, c := range rest.Connections(t) {
		var verbs []string
		for _, v := range c.Verbs {
			if v == "get" || v == "create" { // what else a proxy takes means what its backend makes of it
				verbs = append(verbs, v)
			}
		}
		out = append(out, subresource{c.Name, c.Options, verbs, true})
	}
	return out
}
