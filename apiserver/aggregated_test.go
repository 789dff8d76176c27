// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	restclient "k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/knarr/knarr/apiserver"
	"github.com/knarr/knarr/apiserver/apiservertest"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

// wardle is an aggregated API server: it serves flunders, says what it was asked, and can be made to misbehave.
type wardle struct {
	*httptest.Server
	mood  atomic.Value // "", "down", "redirect"
	asked chan *http.Request
}

func newWardle(t *testing.T, thief string) *wardle {
	w := &wardle{asked: make(chan *http.Request, 100)}
	w.mood.Store("")
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		const group = "/apis/wardle.example.com/v1alpha1"
		answer := func(v any) { _ = json.NewEncoder(out).Encode(v) }
		if r.Header.Get("X-Remote-User") != "system:kube-aggregator" {
			w.asked <- r.Clone(context.Background())
		}
		switch mood := w.mood.Load(); {
		case mood == "down":
			http.Error(out, "not now", http.StatusInternalServerError)
		case mood == "redirect" && strings.HasPrefix(r.URL.Path, group+"/"):
			http.Redirect(out, r, thief, http.StatusTemporaryRedirect)
		case r.URL.Path == group:
			answer(metav1.APIResourceList{
				TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "wardle.example.com/v1alpha1",
				APIResources: []metav1.APIResource{
					{Name: "flunders/status", Namespaced: true, Kind: "Flunder", Verbs: metav1.Verbs{"get"}},
					{Name: "flunders-x", Namespaced: true, Kind: "FlunderX", Verbs: metav1.Verbs{"get"}},
					{Name: "flunders", SingularName: "flunder", Namespaced: true, Kind: "Flunder", Verbs: metav1.Verbs{"get", "list"}},
				},
			})
		case r.URL.Path == "/openapi/v3":
			answer(map[string]any{"paths": map[string]any{"apis/wardle.example.com/v1alpha1": map[string]any{"serverRelativeURL": "/openapi/v3" + group + "?hash=AB"}}})
		case r.URL.Path == "/openapi/v3"+group:
			answer(map[string]any{"openapi": "3.0.0", "info": map[string]any{"title": "flunders"}})
		case r.Header.Get("Upgrade") != "":
			http.Error(out, "nobody", http.StatusForbidden)
		case r.URL.Query().Get("watch") != "":
			for i := range 2 {
				answer(map[string]any{"type": "ADDED", "object": map[string]any{"kind": "Flunder", "metadata": map[string]any{"name": fmt.Sprint("f", i)}}})
				_ = http.NewResponseController(out).Flush()
			}
			<-r.Context().Done()
		default:
			out.Header().Set("Content-Type", "application/json")
			answer(map[string]any{"apiVersion": "wardle.example.com/v1alpha1", "kind": "FlunderList", "metadata": map[string]any{},
				"items": []any{map[string]any{"apiVersion": "wardle.example.com/v1alpha1", "kind": "Flunder", "metadata": map[string]any{"name": "f", "namespace": "default"}}}})
		}
	}))
	w.StartTLS()
	t.Cleanup(w.Close)
	return w
}

// aggregated is a server with wardle behind the Service api of kube-system.
func aggregated(t *testing.T, w *wardle) *apiservertest.Server {
	t.Helper()
	s := apiservertest.New(t, func(c *apiserver.Config) {
		c.Aggregated = func(string, string, int32) (string, error) { return strings.TrimPrefix(w.URL, "https://"), nil }
	})
	put(t, s, &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: "v1alpha1.wardle.example.com"},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: "wardle.example.com", Version: "v1alpha1", GroupPriorityMinimum: 2000, VersionPriority: 200, InsecureSkipTLSVerify: true,
			Service: &apiregistrationv1.ServiceReference{Namespace: metav1.NamespaceSystem, Name: "api"},
		},
	})
	return s
}

func put(t *testing.T, s *apiservertest.Server, o kinds.Object) {
	t.Helper()
	if _, err := s.Admin.Do(t.Context(), client.Request{Verb: client.Create, Type: kinds.Of(o), Namespace: o.GetNamespace(), Object: o}); err != nil {
		t.Fatal(err)
	}
}

// condition waits until the APIService's condition has the reason.
func condition(t *testing.T, s *apiservertest.Server, name, reason string) apiregistrationv1.APIServiceCondition {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	last := apiregistrationv1.APIServiceCondition{}
	now := s.Cache().Snapshot()
	look := func(snapshot *cache.Snapshot) bool {
		a, ok := cache.Get[apiregistrationv1.APIService](snapshot, "", name)
		if ok && len(a.Status.Conditions) > 0 {
			last = a.Status.Conditions[0]
		}
		return ok && last.Reason == reason
	}
	if look(now) {
		return last
	}
	for range s.Cache().Watch(ctx, kinds.For[apiregistrationv1.APIService](), now.Revision()) {
		if look(s.Cache().Snapshot()) {
			return last
		}
	}
	t.Fatalf("%s: the reason is not %s but %+v", name, reason, last)
	return last
}

// serveAPI makes the Service and its endpoints.
func serveAPI(t *testing.T, s *apiservertest.Server) {
	t.Helper()
	put(t, s, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "api", Namespace: metav1.NamespaceSystem},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https", Port: 443}}}})
	condition(t, s, "v1alpha1.wardle.example.com", "EndpointsNotFound")
	name, port, no, yes := "https", int32(443), false, true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "api-1", Namespace: metav1.NamespaceSystem, Labels: map[string]string{discoveryv1.LabelServiceName: "api"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.7"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}}},
	}
	put(t, s, slice)
	condition(t, s, "v1alpha1.wardle.example.com", "MissingEndpoints")
	have, _ := cache.Get[discoveryv1.EndpointSlice](s.Cache().Snapshot(), slice.Namespace, slice.Name)
	next := have.DeepCopy()
	next.Endpoints[0].Conditions.Ready = &yes
	if _, err := s.Admin.Do(t.Context(), client.Request{Verb: client.Update, Type: kinds.Of(next), Namespace: next.Namespace, Name: next.Name, Object: next}); err != nil {
		t.Fatal(err)
	}
}

func TestAggregatedAPIServer(t *testing.T) {
	var stolen atomic.Int32
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen.Add(1) }))
	defer thief.Close()
	w := newWardle(t, thief.URL)
	s := aggregated(t, w)
	const name, group = "v1alpha1.wardle.example.com", "/apis/wardle.example.com/v1alpha1"
	if c := condition(t, s, name, "ServiceNotFound"); c.Status != "False" || c.Message != `service/api in "kube-system" is not present` {
		t.Errorf("%+v", c)
	}
	rc := config(t, s)
	rc.Impersonate = restclient.ImpersonationConfig{UserName: "jane", UID: "7", Groups: []string{"system:masters", "devs"}, Extra: map[string][]string{"example.com/scopes": {"a"}}}
	rc.NextProtos = []string{"http/1.1"} // for upgrades
	jane, err := restclient.HTTPClientFor(rc)
	if err != nil {
		t.Fatal(err)
	}
	jane.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	get := func(t *testing.T, path string, header ...string) (int, string, http.Header) {
		t.Helper()
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(header); i += 2 {
			req.Header.Add(header[i], header[i+1])
		}
		res, err := jane.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body), res.Header
	}
	whole := []string{"Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
	if code, body, _ := get(t, group+"/flunders"); code != http.StatusServiceUnavailable {
		t.Errorf("before it is there: %d %s", code, body)
	}
	if _, body, _ := get(t, "/apis", whole...); !strings.Contains(body, `"name":"wardle.example.com"`) || !strings.Contains(body, `"Stale"`) {
		t.Errorf("discovery before it is there: %s", body)
	}
	serveAPI(t, s)
	condition(t, s, name, "Passed")

	t.Run("a request says who asks and carries no credentials", func(t *testing.T) {
		code, body, _ := get(t, group+"/namespaces/default/flunders?limit=5", "X-Remote-User", "root", "X-Remote-Extra-Evil", "1")
		if code != http.StatusOK || !strings.Contains(body, "FlunderList") {
			t.Fatalf("%d %s", code, body)
		}
		r := <-w.asked
		got := fmt.Sprint(r.URL, r.Header["X-Remote-User"], r.Header["X-Remote-Uid"], r.Header["X-Remote-Group"], r.Header["X-Remote-Extra-Example.com%2fscopes"])
		if want := group + "/namespaces/default/flunders?limit=5 [jane] [7] [system:masters devs system:authenticated] [a]"; got != want {
			t.Errorf("the server was asked\n%s, want\n%s", got, want)
		}
		for k := range r.Header {
			if k == "Authorization" || strings.HasPrefix(k, "Impersonate-") || k == "X-Remote-Extra-Evil" {
				t.Errorf("passed on: %s", k)
			}
		}
		if len(r.TLS.PeerCertificates) != 0 { // the test's server asks for none
			t.Error("a certificate was shown unasked")
		}
	})
	t.Run("a watch is streamed", func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+group+"/flunders?watch=1", nil)
		res, err := jane.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		d := json.NewDecoder(res.Body)
		for range 2 {
			var e metav1.WatchEvent
			if err := d.Decode(&e); err != nil || e.Type != "ADDED" {
				t.Fatalf("%+v %v", e, err)
			}
		}
		<-w.asked
	})
	t.Run("redirects are refused", func(t *testing.T) {
		w.mood.Store("redirect")
		defer w.mood.Store("")
		code, body, header := get(t, group+"/flunders")
		if code != http.StatusBadGateway || !strings.Contains(body, "not permitted") || header.Get("Location") != "" {
			t.Errorf("%d %s %v", code, body, header)
		}
		if stolen.Load() != 0 {
			t.Error("the redirect was followed")
		}
		<-w.asked
	})
	t.Run("a failed upgrade is an answer like any other", func(t *testing.T) {
		code, body, _ := get(t, group+"/namespaces/default/flunders/f/exec", "Connection", "Upgrade", "Upgrade", "SPDY/3.1")
		if code != http.StatusForbidden || !strings.Contains(body, "nobody") {
			t.Errorf("%d %s", code, body)
		}
		if r := <-w.asked; !strings.Contains(r.Header.Get("Connection"), "Upgrade") || r.ProtoMajor != 1 {
			t.Errorf("%s %v", r.Proto, r.Header)
		}
	})
	t.Run("discovery and documents", func(t *testing.T) {
		if _, body, _ := get(t, "/apis", whole...); strings.Contains(body, "Stale") || !strings.Contains(body, `"resource":"flunders","responseKind":{"group":"wardle.example.com","version":"v1alpha1","kind":"Flunder"},"scope":"Namespaced","singularResource":"flunder","verbs":["get","list"],"subresources":[{"subresource":"status"`) {
			t.Errorf("/apis: %s", body)
		}
		if _, body, _ := get(t, "/apis/wardle.example.com"); !strings.Contains(body, `"preferredVersion":{"groupVersion":"wardle.example.com/v1alpha1"`) {
			t.Errorf("/apis/wardle.example.com: %s", body)
		}
		if _, body, _ := get(t, "/openapi/v3"); !strings.Contains(body, `/openapi/v3/apis/wardle.example.com/v1alpha1?hash=AB`) {
			t.Errorf("/openapi/v3: %s", body)
		}
		if code, body, _ := get(t, "/openapi/v3"+group+"?hash=old"); code != http.StatusOK || !strings.Contains(body, "flunders") {
			t.Errorf("/openapi/v3%s: %d %s", group, code, body)
		}
	})
	t.Run("kubectl", func(t *testing.T) {
		for args, want := range map[string]string{
			"get flunders":            "f",
			"api-resources":           "wardle.example.com/v1alpha1",
			"get apiservices " + name: "kube-system/api   True",
			"get apiservices v1.apps": "Local     True",
		} {
			if out, err := kubectl(t, s, "", strings.Fields(args)...); err != nil || !strings.Contains(out, want) {
				t.Errorf("kubectl %s: %v\n%s", args, err, out)
			}
		}
	})
	t.Run("a server that fails is unavailable", func(t *testing.T) {
		w.mood.Store("down")
		have, _ := cache.Get[apiregistrationv1.APIService](s.Cache().Snapshot(), "", name)
		next := have.DeepCopy()
		next.Spec.VersionPriority = 201 // looked at now
		if _, err := s.Admin.Do(t.Context(), client.Request{Verb: client.Update, Type: kinds.Of(next), Name: name, Object: next}); err != nil {
			t.Fatal(err)
		}
		if c := condition(t, s, name, "FailedDiscoveryCheck"); !strings.Contains(c.Message, "bad status from https://api.kube-system.svc:443/apis/wardle.example.com/v1alpha1: 500") {
			t.Errorf("%+v", c)
		}
		if _, body, _ := get(t, "/apis", whole...); !strings.Contains(body, "Stale") || !strings.Contains(body, `"flunders"`) {
			t.Errorf("the last that is known is not told: %s", body)
		}
	})
}

// registered waits until all that this server answers is an APIService.
func registered(t *testing.T, s *apiservertest.Server) {
	t.Helper()
	served := map[schema.GroupVersion]bool{}
	for _, list := range [][]*kinds.Type{kinds.All, kinds.Virtual} {
		for _, k := range list {
			for i := range k.Served {
				served[k.Served[i].GroupVersion()] = true
			}
		}
	}
	for gv := range served {
		if gv.Group != apiregistrationv1.GroupName {
			condition(t, s, gv.Version+"."+gv.Group, "Local")
		}
	}
}

func TestOwnAPIServices(t *testing.T) {
	s := apiservertest.New(t)
	if c := condition(t, s, "v1.", "Local"); c.Status != "True" || c.Message != "Local APIServices are always available" {
		t.Errorf("%+v", c)
	}
	condition(t, s, "v1.apps", "Local")
	if out, err := kubectl(t, s, crontabs, "create", "-f", "-"); err != nil {
		t.Fatal(out)
	}
	condition(t, s, "v1.stable.example.com", "Local")
	if out, err := kubectl(t, s, "", "delete", "crd", "crontabs.stable.example.com"); err != nil {
		t.Fatal(out)
	}
	if out, err := kubectl(t, s, "", "wait", "--for=delete", "apiservice/v1.stable.example.com", "--timeout=5s"); err != nil {
		t.Error(out)
	}
	out, err := kubectl(t, s, "", "-n", "kube-system", "get", "configmap/extension-apiserver-authentication", "role/extension-apiserver-authentication-reader")
	if err != nil {
		t.Error(out)
	}
}
