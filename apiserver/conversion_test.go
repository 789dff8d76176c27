// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/knarr/knarr/apiserver/apiservertest"
)

// hosts is a definition of two versions with a webhook between: v1 has host and port where v1beta1 has hostPort.
const hosts = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: hosts.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: hosts, singular: host, kind: Host}
  conversion:
    strategy: Webhook
    webhook: {conversionReviewVersions: [v1], clientConfig: {url: "URL", caBundle: "CA"}}
  versions:
  - {name: v1beta1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {hostPort: {type: string}}}}}
  - {name: v1, served: true, storage: false, schema: {openAPIV3Schema: {type: object, properties: {host: {type: string}, port: {type: string}}}}}
`

type convertible struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Metadata   json.RawMessage `json:"metadata"`
	HostPort   string          `json:"hostPort,omitempty"`
	Host       string          `json:"host,omitempty"`
	Port       string          `json:"port,omitempty"`
}

func TestConversionByWebhook(t *testing.T) {
	s := apiservertest.New(t)
	s.Account(t, "default")
	var elsewhere atomic.Int32
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer thief.Close()
	var mood atomic.Value
	mood.Store("")
	hook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Request    struct {
				UID               string        `json:"uid"`
				DesiredAPIVersion string        `json:"desiredAPIVersion"`
				Objects           []convertible `json:"objects"`
			} `json:"request"`
		}
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if mood.Load() == "redirect" {
			http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
			return
		}
		list := review.Request.Objects
		for i := range list {
			o := &list[i]
			o.APIVersion = review.Request.DesiredAPIVersion
			if o.HostPort != "" {
				o.Host, o.Port, _ = strings.Cut(o.HostPort, ":")
				o.HostPort = ""
			} else {
				o.HostPort = o.Host + ":" + o.Port
				o.Host, o.Port = "", ""
			}
			if mood.Load() == "lie" {
				o.Metadata = json.RawMessage(`{"name":"other","namespace":"default"}`)
			}
		}
		result := map[string]any{"status": "Success"}
		if mood.Load() == "refuse" {
			result = map[string]any{"status": "Failure", "message": "not today"}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": review.APIVersion, "kind": review.Kind,
			"response": map[string]any{"uid": review.Request.UID, "result": result, "convertedObjects": list}})
	}))
	defer hook.Close()
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hook.Certificate().Raw}))
	cache := t.TempDir()
	for i, c := range []struct{ mood, stdin, args, want string }{
		{"", strings.NewReplacer("URL", hook.URL, "CA", ca).Replace(hosts), "create -f -", "created"},
		{"", "", "wait --for condition=established --timeout=5s crd/hosts.stable.example.com", "condition met"},
		{"", "apiVersion: stable.example.com/v1beta1\nkind: Host\nmetadata: {name: old}\nhostPort: a:1\n", "create -f -", "created"},
		{"", "apiVersion: stable.example.com/v1\nkind: Host\nmetadata: {name: new}\nhost: b\nport: \"2\"\n", "create -f -", "created"},
		{"", "", "get hosts.v1.stable.example.com -o jsonpath={range.items[*]}{.apiVersion}/{.host}+{.port},{end}", "stable.example.com/v1/b+2,stable.example.com/v1/a+1,"},
		{"", "", "get hosts.v1beta1.stable.example.com -o jsonpath={range.items[*]}{.hostPort},{end}", "b:2,a:1,"},
		{"", "", `patch hosts.v1.stable.example.com old --type=merge -p {"port":"9"}`, "patched"},
		{"", "", "get hosts.v1beta1.stable.example.com old -o jsonpath={.hostPort}:{.metadata.generation}", "a:9:2"},
		{"refuse", "apiVersion: stable.example.com/v1\nkind: Host\nmetadata: {name: third}\nhost: c\n", "create -f -", "conversion webhook for stable.example.com/v1, Kind=Host failed: not today"},
		{"lie", "apiVersion: stable.example.com/v1\nkind: Host\nmetadata: {name: third}\nhost: c\n", "create -f -", "must have the same name"},
		{"redirect", "apiVersion: stable.example.com/v1\nkind: Host\nmetadata: {name: third}\nhost: c\n", "create -f -", "a redirect (307), which is never followed"},
		{"", "", "get hosts.v1.stable.example.com third", "not found"},
	} {
		mood.Store(c.mood)
		out, err := kubectl(t, s, c.stdin, append(strings.Fields(c.args), "--cache-dir", cache)...)
		if err != nil {
			out += fmt.Sprint(err)
		}
		if !strings.Contains(out, c.want) {
			t.Errorf("%d: kubectl %s: %q is missing in\n%s", i, c.args, c.want, out)
		}
	}
	if elsewhere.Load() != 0 {
		t.Error("a redirect was followed")
	}
}
