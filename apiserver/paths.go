// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiversion "k8s.io/apimachinery/pkg/version"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/internal/version"
)

// servePath answers requests for what is no resource.
func (s *Server) servePath(w http.ResponseWriter, r *http.Request, u auth.User) error {
	switch path := strings.TrimSuffix(r.URL.Path, "/"); path {
	case "/version":
		return sendJSON(w, r, Version())
	case "/metrics":
		s.metrics.handler.ServeHTTP(w, r)
		return nil
	case "/healthz", "/livez", "/readyz":
		s.serveHealth(w, r, path[1:], "")
		return nil
	case PathCA:
		w.Header().Set("Content-Type", "application/x-pem-file")
		_, _ = w.Write(s.authority.CA()) // the client may be gone
		return nil
	case PathJoin:
		return s.serveJoin(w, r, u)
	case "/openid/v1/jwks":
		return s.sendKeys(w, "application/jwk-set+json", s.authority.Keys)
	case "/.well-known/openid-configuration":
		return s.sendKeys(w, "application/json", s.authority.Discovery)
	case "":
		return sendJSON(w, r, metav1.RootPaths{Paths: s.rootPaths()})
	default:
		for _, kind := range []string{"healthz", "livez", "readyz"} {
			if name, ok := strings.CutPrefix(path, "/"+kind+"/"); ok {
				s.serveHealth(w, r, kind, name)
				return nil
			}
		}
	}
	// Kinds may have been defined a moment ago: what the client knows the store has, and the cache soon.
	now, err := s.newest(r.Context())
	if err != nil {
		return err
	}
	others := s.others.List()
	of := s.described.of(now.Kinds(), others)
	if doc, ok := strings.CutPrefix(r.URL.Path, "/openapi/v3"); ok {
		if to := others.Find(doc + "/"); to != nil {
			return s.serveDocument(w, r, to, u)
		}
	}
	if strings.HasPrefix(r.URL.Path, "/openapi/") {
		of.openapi.ServeHTTP(w, r)
		return nil
	}
	if ok, err := of.discovery.serve(w, r, r.Host); ok {
		return err
	}
	return unknownResource()
}

func (s *Server) rootPaths() []string {
	paths := []string{"/.well-known/openid-configuration", "/api", "/api/v1", "/apis"}
	for _, g := range s.described.of(s.cache.Snapshot().Kinds(), s.others.List()).discovery.groups {
		paths = append(paths, "/apis/"+g.Name)
		for _, v := range g.Versions {
			paths = append(paths, "/apis/"+v.GroupVersion)
		}
	}
	return append(paths, "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version")
}

func (s *Server) sendKeys(w http.ResponseWriter, typ string, doc func() ([]byte, error)) error {
	b, err := doc()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", typ)
	w.Header().Set("Cache-Control", "public, max-age=3600")
	// An error here is the client gone away.
	_, _ = w.Write(b)
	return nil
}

// check is one thing that must work.
type check struct {
	name  string
	ready bool // asked by readyz only
	run   func(context.Context) error
}

func (s *Server) checks() []check {
	return []check{
		{"ping", false, func(context.Context) error { return nil }},
		{"etcd", false, func(ctx context.Context) error {
			_, _, _, err := s.cfg.Store.Get(ctx, "/registry/health")
			return err
		}},
		{"informer-sync", true, closed(s.cache.Ready(), "the objects have not been read yet")},
		{"poststarthook/rbac/bootstrap-roles", true, closed(s.ready, "the server's own objects have not been written yet")},
	}
}

func closed(c <-chan struct{}, text string) func(context.Context) error {
	return func(context.Context) error {
		select {
		case <-c:
			return nil
		default:
			return fmt.Errorf("%s", text)
		}
	}
}

// serveHealth answers "ok", or says what is not; only one check when name is given. The text is what kubectl and people
// know: one line a check.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request, kind, name string) {
	ctx, done := context.WithTimeout(r.Context(), 2*time.Second)
	defer done()
	excluded := r.URL.Query()["exclude"]
	var text strings.Builder
	failed, found := false, name == ""
	for _, c := range s.checks() {
		if c.ready && kind == "livez" || name != "" && c.name != name {
			continue
		}
		found = true
		if contains(excluded, c.name) {
			fmt.Fprintf(&text, "[+]%s excluded: ok\n", c.name)
			continue
		}
		if err := c.run(ctx); err != nil {
			failed = true
			fmt.Fprintf(&text, "[-]%s failed: %v\n", c.name, err)
			continue
		}
		fmt.Fprintf(&text, "[+]%s ok\n", c.name)
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache, private")
	_, verbose := r.URL.Query()["verbose"]
	switch {
	case !found:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, "there is no check %q", name)
	case failed:
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "%s%s check failed\n", text.String(), kind)
	case verbose:
		fmt.Fprintf(w, "%s%s check passed\n", text.String(), kind)
	default:
		fmt.Fprint(w, "ok")
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// Version is what /version says: the Kubernetes release whose API types are served, marked as ours.
func Version() apiversion.Info {
	return apiversion.Info{
		Major: version.Major, Minor: version.Minor, GitVersion: version.Kubernetes + "+knarr", GitTreeState: "clean",
		BuildDate: "1970-01-01T00:00:00Z", GoVersion: runtime.Version(), Compiler: runtime.Compiler,
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}
