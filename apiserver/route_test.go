// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/apiserver/rest"
)

func TestParseRoute(t *testing.T) {
	for _, c := range []struct{ method, url, want string }{
		{"GET", "/api/v1/pods", "list  pods   "},
		{"GET", "/api/v1/namespaces/a/pods", "list  pods a  "},
		{"GET", "/api/v1/namespaces/a/pods/b", "get  pods a b "},
		{"GET", "/api/v1/namespaces/a/pods?watch=true", "watch  pods a  "},
		{"GET", "/api/v1/watch/namespaces/a/pods", "watch  pods a  "},
		{"DELETE", "/api/v1/namespaces/a/pods", "deletecollection  pods a  "},
		{"PUT", "/apis/apps/v1/namespaces/a/deployments/b/scale", "update apps deployments a b scale"},
		{"GET", "/api/v1/namespaces", "list  namespaces   "},
		{"GET", "/api/v1/namespaces/a", "get  namespaces a a "},
		{"PUT", "/api/v1/namespaces/a/finalize", "update  namespaces a a finalize"},
		{"GET", "/api/v1/namespaces/a/pods/b/exec", "create  pods a b exec"},
		{"GET", "/api/v1/nodes/n/proxy/x/y/", "get  nodes  n proxy/x/y/"},
		{"PATCH", "/api/v1/nodes/n", "patch  nodes  n "},
		{"GET", "/healthz", "get /healthz"},
		{"POST", "/api", "post /api"},
		{"GET", "/apis/apps/v1", "get /apis/apps/v1"},
	} {
		rt := parseRoute(httptest.NewRequest(c.method, c.url, nil))
		got := strings.Join([]string{rt.verb, rt.gvr.Group, rt.gvr.Resource, rt.namespace, rt.name, rt.subresource + rt.rest}, " ")
		if !rt.resource() {
			got = rt.verb + " " + rt.path
		}
		if got != c.want {
			t.Errorf("%s %s: %q, want %q", c.method, c.url, got, c.want)
		}
	}
	r := httptest.NewRequest("GET", "/api/v1/secrets?fieldSelector=metadata.name%3Dx", nil)
	if a := parseRoute(r).attributes(auth.Admin(), r); a.Name != "x" || a.Verb != "list" {
		t.Errorf("a list of one object is about that object: %+v", a)
	}
	up := httptest.NewRequest("GET", "/api/v1/nodes/n/proxy/exec/a/b/c", nil)
	up.Header.Set("Upgrade", "websocket")
	if rt := parseRoute(up); rt.verb != "create" {
		t.Errorf("an upgrade through a proxy: %s", rt.verb)
	}
}

func TestAcceptable(t *testing.T) {
	for accept, want := range map[string]string{
		"":                 "application/json ",
		"*/*":              "application/json ",
		"application/yaml": "application/yaml ",
		"application/json;as=Table;v=v1;g=meta.k8s.io,application/json":                                                "application/json Table",
		"application/json;as=Table;v=v9;g=meta.k8s.io,application/json":                                                "application/json ",
		"application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json":         "application/vnd.kubernetes.protobuf PartialObjectMetadataList",
		"application/cbor, application/vnd.kubernetes.protobuf,application/json":                                       "application/vnd.kubernetes.protobuf ",
		"application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io": "application/json Table",
		"image/png": "406",
	} {
		r := httptest.NewRequest("GET", "/api/v1/pods", nil)
		r.Header.Set("Accept", accept)
		m, err := acceptable(r)
		got := string(m.format) + " " + m.as
		if err != nil {
			got = "406"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", accept, got, want)
		}
	}
}

func FuzzParseRoute(f *testing.F) {
	f.Add("/api/v1/namespaces/a/pods/b/exec")
	f.Add("/apis///")
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path = path
		rt := parseRoute(r)
		if rt.resource() && rt.gvr.Version == "" && path != "" && !strings.Contains(path, "//") {
			t.Errorf("%q is a resource without a version", path)
		}
	})
}

func FuzzCheckBody(f *testing.F) {
	f.Add([]byte(`{"a":[1,"]"]}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_ = rest.CheckBody(data, rest.JSON)
		_ = rest.CheckBody(data, rest.YAML)
	})
}
