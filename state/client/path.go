// SPDX-License-Identifier: Apache-2.0

package client

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/knarr/knarr/kinds"
)

// collection is the URL path of a kind's objects, in one namespace or ("") in all.
func collection(t *kinds.Type, ns string) string {
	var b strings.Builder
	if t.Group == "" {
		b.WriteString("/api/" + t.Version)
	} else {
		b.WriteString("/apis/" + t.Group + "/" + t.Version)
	}
	if ns != "" && !t.Cluster {
		b.WriteString("/namespaces/" + url.PathEscape(ns))
	}
	b.WriteString("/" + t.Plural)
	return b.String()
}

// target is the method, path and query of a request.
func target(r Request) (method, path string, q url.Values) {
	method = map[Verb]string{
		Get: http.MethodGet, Create: http.MethodPost, Update: http.MethodPut, Patch: http.MethodPatch, Delete: http.MethodDelete,
	}[r.Verb]
	path = collection(r.Type, r.Namespace)
	if r.Verb != Create || r.Subresource != "" {
		path += "/" + url.PathEscape(r.Name)
	}
	if r.Subresource != "" {
		path += "/" + r.Subresource
	}
	q = url.Values{}
	if r.Verb == Get {
		return method, path, q
	}
	if r.DryRun {
		q.Set("dryRun", "All")
	}
	if r.FieldManager != "" && r.Verb != Delete {
		q.Set("fieldManager", r.FieldManager)
	}
	if r.Force && r.Verb == Patch {
		q.Set("force", "true")
	}
	return method, path, q
}
