// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/apiserver/rest"
)

// route is what a request is about, read from its method, path and query: the same words for authorisation, dispatch and
// metrics, so that what is authorised is what is done.
type route struct {
	verb        string // get list watch create update patch delete deletecollection; for a path that is no resource: get post …
	gvr         schema.GroupVersionResource
	namespace   string
	name        string
	subresource string
	rest        string // what follows a proxy subresource, with its leading slash
	path        string // set when it is no resource
	past        string // PathHistory or PathUndo: it is about the object's past
}

// resource reports whether the route names objects.
func (rt route) resource() bool { return rt.path == "" }

// longRunning requests may last, and do not count as in flight.
func (rt route) longRunning() bool {
	connects, _ := rest.Connecting(rt.subresource)
	return rt.verb == "watch" || connects
}

// parseRoute reads
//
//	/api/v1/namespaces/NS/pods/NAME/SUBRESOURCE/REST
//	/apis/GROUP/VERSION/namespaces/NS/RESOURCE/NAME/…
//	/api/v1/nodes/NAME/…
//	/api/v1/proxy/namespaces/NS/RESOURCE/NAME/REST and /api/v1/proxy/nodes/NAME/REST, the first form of …/NAME/proxy/REST
//
// and everything else as a plain path.
func parseRoute(r *http.Request) route {
	if rt, ok := parsePast(r); ok {
		return rt
	}
	return parseObjects(r)
}

// parsePast reads the path of an object behind one of the prefixes that ask for its past. Reading the past is reading the
// object; what undo does beyond that is authorised when it is known.
func parsePast(r *http.Request) (route, bool) {
	for prefix, method := range map[string]string{PathHistory: http.MethodGet, PathUndo: http.MethodPost} {
		path, ok := strings.CutPrefix(r.URL.Path, prefix)
		if !ok || r.Method != method {
			continue
		}
		rt := parseObjects(&http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}})
		if !rt.resource() || rt.verb != "get" || rt.name == "" || rt.subresource != "" {
			return route{}, false
		}
		rt.past = prefix
		return rt, true
	}
	return route{}, false
}

func parseObjects(r *http.Request) route {
	plain := route{verb: strings.ToLower(r.Method), path: r.URL.Path}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	var rt route
	switch {
	case parts[0] == "api" && len(parts) >= 3:
		rt.gvr.Version, parts = parts[1], parts[2:]
	case parts[0] == "apis" && len(parts) >= 4:
		rt.gvr.Group, rt.gvr.Version, parts = parts[1], parts[2], parts[3:]
	default:
		return plain
	}
	legacyWatch := parts[0] == "watch" && len(parts) > 1
	if legacyWatch {
		parts = parts[1:]
	}
	legacyProxy := parts[0] == rest.Proxy && len(parts) > 2
	if legacyProxy {
		parts = parts[1:]
	}
	if parts[0] == "namespaces" && len(parts) >= 2 {
		rt.namespace = parts[1]
		if len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
			parts = parts[2:]
		}
	}
	rt.gvr.Resource = parts[0]
	if len(parts) > 1 {
		rt.name = parts[1]
	}
	if legacyProxy && len(parts) > 1 {
		parts = append([]string{parts[0], parts[1], rest.Proxy}, parts[2:]...)
	}
	if len(parts) > 2 {
		rt.subresource = parts[2]
	}
	if len(parts) > 3 {
		rt.rest = "/" + strings.Join(parts[3:], "/")
	}
	if strings.HasSuffix(r.URL.Path, "/") && rt.subresource == rest.Proxy {
		rt.rest += "/"
	}
	rt.verb = verbOf(r, rt, legacyWatch)
	return rt
}

func verbOf(r *http.Request, rt route, legacyWatch bool) string {
	if _, acts := rest.Connecting(rt.subresource); acts || rt.subresource == rest.Proxy && r.Header.Get("Upgrade") != "" {
		return "create"
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		watch := r.URL.Query().Get("watch")
		switch {
		case legacyWatch || rt.subresource == "" && (watch == "true" || watch == "1"):
			return "watch"
		case rt.name == "":
			return "list"
		}
		return "get"
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if rt.name == "" {
			return "deletecollection"
		}
		return "delete"
	}
	return strings.ToLower(r.Method)
}

// attributes is the route as authorizers see it. A list or watch of the one object that a field selector names is
// about that object.
func (rt route) attributes(u auth.User, r *http.Request) auth.Attributes {
	a := auth.Attributes{
		User: u, Verb: rt.verb, Path: rt.path,
		Group: rt.gvr.Group, Version: rt.gvr.Version, Resource: rt.gvr.Resource, Subresource: rt.subresource,
		Namespace: rt.namespace, Name: rt.name,
	}
	if rt.verb != "list" && rt.verb != "watch" && rt.verb != "deletecollection" {
		return a
	}
	sel, err := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	if err != nil {
		return a
	}
	if name, ok := sel.RequiresExactMatch("metadata.name"); ok && a.Name == "" {
		a.Name = name
	}
	a.NodeField, _ = sel.RequiresExactMatch("spec.nodeName")
	return a
}
