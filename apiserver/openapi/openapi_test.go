// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/knarr/knarr/kinds"
)

func docs() *Docs { return New(kinds.All, kinds.Virtual) }

func get(t *testing.T, h http.Handler, url string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("GET", url, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func document3(t *testing.T, d *Docs, url string) *spec3.OpenAPI {
	t.Helper()
	w := get(t, d, url)
	if w.Code != 200 {
		t.Fatalf("%s: %d %s", url, w.Code, w.Body)
	}
	doc := &spec3.OpenAPI{}
	if err := json.Unmarshal(w.Body.Bytes(), doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestEveryReferencePointsSomewhere(t *testing.T) {
	d := docs()
	for _, gv := range d.groupVersions() {
		w := get(t, d, "/openapi/v3/"+path(gv))
		doc := document3(t, d, "/openapi/v3/"+path(gv))
		for _, part := range strings.Split(w.Body.String(), `"$ref":"`)[1:] {
			ref, _, _ := strings.Cut(part, `"`)
			name := strings.TrimPrefix(ref, "#/components/schemas/")
			if doc.Components.Schemas[name] == nil {
				t.Errorf("%s: %s points nowhere", gv, ref)
			}
		}
	}
}

func TestPatchOperationsAreWhatKubectlLooksFor(t *testing.T) {
	d := docs()
	for _, k := range kinds.All {
		for _, v := range k.Served {
			item := document3(t, d, "/openapi/v3/"+path(v.GroupVersion())).Paths.Paths[itemPath(k, &v)]
			if item == nil || item.Patch == nil {
				t.Errorf("%s cannot be patched", v.GroupVersionKind)
				continue
			}
			if item.Patch.RequestBody.Content["application/strategic-merge-patch+json"] == nil {
				t.Errorf("%s has no strategic merge patch", v.GroupVersionKind)
			}
			if !slices.ContainsFunc(item.Patch.Parameters, func(p *spec3.Parameter) bool { return p.Name == "fieldValidation" && p.In == "query" }) {
				t.Errorf("%s has no fieldValidation", v.GroupVersionKind)
			}
		}
	}
}

func itemPath(k *kinds.Type, v *kinds.Version) string {
	if k.Cluster {
		return "/" + path(v.GroupVersion()) + "/" + k.Plural + "/{name}"
	}
	return "/" + path(v.GroupVersion()) + "/namespaces/{namespace}/" + k.Plural + "/{name}"
}

func TestSchemasOfAPod(t *testing.T) {
	s := document3(t, docs(), "/openapi/v3/api/v1").Components.Schemas
	pod, container := s["io.k8s.api.core.v1.Pod"], s["io.k8s.api.core.v1.Container"]
	if pod == nil || !strings.Contains(pod.Description, "Pod is a collection of containers") {
		t.Fatalf("Pod: %+v", pod)
	}
	if gvks, _ := pod.Extensions["x-kubernetes-group-version-kind"].([]any); len(gvks) != 1 {
		t.Errorf("Pod is %v", pod.Extensions)
	}
	if got := container.Required; !slices.Equal(got, []string{"name"}) {
		t.Errorf("a container requires %v", got)
	}
	ports := container.Properties["ports"]
	for key, want := range map[string]string{
		"x-kubernetes-list-type": `"map"`, "x-kubernetes-list-map-keys": `["containerPort","protocol"]`,
		"x-kubernetes-patch-strategy": `"merge"`, "x-kubernetes-patch-merge-key": `"containerPort"`,
	} {
		if got, _ := json.Marshal(ports.Extensions[key]); string(got) != want {
			t.Errorf("ports: %s is %s, want %s", key, got, want)
		}
	}
	if got := s["io.k8s.api.core.v1.ContainerPort"].Properties["protocol"].Default; got != "TCP" {
		t.Errorf("the default protocol is %v", got)
	}
	policy := s["io.k8s.api.core.v1.PodSpec"].Properties["restartPolicy"]
	if len(policy.Enum) != 3 {
		t.Errorf("restartPolicy may be %v", policy.Enum)
	}
	if q := s["io.k8s.apimachinery.pkg.api.resource.Quantity"]; len(q.OneOf) != 2 || len(q.Type) != 0 {
		t.Errorf("a quantity is %+v", q)
	}
	if m := s["io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"]; m.Extensions["x-kubernetes-map-type"] != "atomic" {
		t.Errorf("a selector is %v", m.Extensions)
	}
	if at := s["io.k8s.apimachinery.pkg.apis.meta.v1.Time"]; at.Format != "date-time" {
		t.Errorf("a time is %+v", at)
	}
}

func TestEveryFieldIsDocumented(t *testing.T) {
	w := get(t, docs(), "/openapi/v2")
	doc := &spec.Swagger{}
	if err := json.Unmarshal(w.Body.Bytes(), doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Definitions) < 200 {
		t.Fatalf("only %d definitions", len(doc.Definitions))
	}
	missing := 0
	for name, s := range doc.Definitions {
		for field, p := range s.Properties {
			if p.Description == "" && strings.HasPrefix(name, "io.k8s.api.") {
				missing++
				t.Logf("%s.%s has no description", name, field)
			}
		}
	}
	// Upstream left these few without words.
	if missing > 25 {
		t.Errorf("%d fields without description", missing)
	}
}

func TestOperationsHaveNamesOfTheirOwn(t *testing.T) {
	doc := &spec.Swagger{}
	if err := json.Unmarshal(get(t, docs(), "/openapi/v2").Body.Bytes(), doc); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for at, item := range doc.Paths.Paths {
		for _, op := range []*spec.Operation{item.Get, item.Put, item.Post, item.Patch, item.Delete} {
			if op == nil {
				continue
			}
			if other := seen[op.ID]; other != "" {
				t.Errorf("%s is at %s and %s", op.ID, at, other)
			}
			seen[op.ID] = at
		}
	}
	for _, want := range []string{"listCoreV1NamespacedPod", "patchAppsV1NamespacedDeploymentStatus", "readAppsV1NamespacedDeploymentScale",
		"createAuthorizationV1SubjectAccessReview", "connectCoreV1GetNamespacedPodLog", "createCoreV1NamespacedPodEviction"} {
		if seen[want] == "" {
			t.Errorf("no operation %s", want)
		}
	}
}

func TestVersion2InProtobuf(t *testing.T) {
	w := get(t, docs(), "/openapi/v2", "Accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf", "Accept-Encoding", "gzip")
	if got := w.Header().Get("Content-Type"); !strings.HasSuffix(got, "+protobuf") || w.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("%v", w.Header())
	}
	r, err := gzip.NewReader(bytes.NewReader(w.Body.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	doc := &openapiv2.Document{}
	if err := proto.Unmarshal(raw, doc); err != nil || len(doc.Definitions.AdditionalProperties) < 200 {
		t.Fatalf("%v, %d definitions", err, len(doc.Definitions.AdditionalProperties))
	}
}

func TestDocumentsAreKeptByTheirHash(t *testing.T) {
	d := docs()
	index := struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}{}
	if err := json.Unmarshal(get(t, d, "/openapi/v3").Body.Bytes(), &index); err != nil {
		t.Fatal(err)
	}
	url := index.Paths["apis/apps/v1"].ServerRelativeURL
	w := get(t, d, url)
	if w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
		t.Fatalf("%s: %d %v", url, w.Code, w.Header())
	}
	if again := get(t, d, url, "If-None-Match", w.Header().Get("Etag")); again.Code != 304 || again.Body.Len() != 0 {
		t.Errorf("the same again is %d", again.Code)
	}
	if old := get(t, d, "/openapi/v3/apis/apps/v1?hash=old"); old.Code != 301 || old.Header().Get("Location") != url {
		t.Errorf("an old hash is %d to %q", old.Code, old.Header().Get("Location"))
	}
	if w := get(t, d, "/openapi/v3/apis/none/v1"); w.Code != 404 {
		t.Errorf("a group that is not served is %d", w.Code)
	}
	if w := get(t, d, "/openapi/v2", "Accept", "text/html"); w.Code != 406 {
		t.Errorf("HTML is %d", w.Code)
	}
	if other := get(t, docs(), "/openapi/v3"); !strings.Contains(other.Body.String(), strings.SplitAfter(url, "hash=")[1]) {
		t.Error("two servers give the same document different hashes")
	}
}

func BenchmarkBuild(b *testing.B) {
	for b.Loop() {
		d := docs()
		if _, err := d.index(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
}
