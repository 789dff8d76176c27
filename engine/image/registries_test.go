// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/internal/errs"
)

// basicDoor asks for ann:secret.
func basicDoor(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != "ann" || p != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// tokenDoor is a registry whose tokens ann:secret gets from /token, good for the scopes that were asked for.
func tokenDoor(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			if u, p, _ := r.BasicAuth(); u != "ann" || p != "secret" {
				http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
				return
			}
			fmt.Fprintf(w, `{"token":%q}`, base64.URLEncoding.EncodeToString([]byte("for "+strings.Join(r.URL.Query()["scope"], " "))))
			return
		}
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		scope, _ := base64.URLEncoding.DecodeString(token)
		repo, _, isRepo := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/")
		if token == "" || isRepo && !strings.Contains(string(scope), "repository:"+repo+":") {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, r.Host))
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func TestRegistriesWithAPassword(t *testing.T) {
	needRoot(t)
	for name, door := range map[string]func(http.Handler) http.Handler{"basic": basicDoor, "token": tokenDoor} {
		t.Run(name, func(t *testing.T) {
			host := testRegistry(t, door)
			good, bad := Auth{Username: "ann", Password: "secret"}, Auth{Username: "ann", Password: "wrong"}
			s := openStore(t, t.TempDir())
			if err := s.Login(t.Context(), "http://"+host+"/v2/", good); err != nil {
				t.Errorf("login: %v", err)
			}
			for _, a := range []Auth{bad, {}} {
				if err := s.Login(t.Context(), host, a); !errors.Is(err, errs.Unauthentic) {
					t.Errorf("login with %v: %v", a, err)
				}
			}
			ref := host + "/team/web:v1"
			img := load(t, s, dockerArchive(t, ref, baseLayers(t)...))
			if _, err := s.Push(t.Context(), ref, PushOptions{}); !errors.Is(err, errs.Denied) {
				t.Errorf("push without: %v", err)
			}
			if _, err := s.Push(t.Context(), ref, PushOptions{Auth: good}); err != nil {
				t.Errorf("push: %v", err)
			}
			other := openStore(t, t.TempDir())
			if _, err := other.Pull(t.Context(), ref, PullOptions{Auth: bad}); !errors.Is(err, errs.Denied) || !strings.Contains(err.Error(), "may require a login") {
				t.Errorf("pull with a wrong password: %v", err)
			}
			asked := ""
			got, err := other.Pull(t.Context(), ref, PullOptions{AuthFor: func(r string) Auth { asked = r; return good }})
			if err != nil || got.ID != img.ID || asked != host {
				t.Errorf("pull: %v %v, asked for %q", got.ID, err, asked)
			}
		})
	}
}

// seen remembers the requests that match.
type seen struct {
	mu   sync.Mutex
	list []string
}

func (s *seen) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.list = append(s.list, r.Method+" "+r.URL.RequestURI())
		s.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

func (s *seen) count(part string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.list {
		if strings.Contains(l, part) {
			n++
		}
	}
	return n
}

// A layer that another repository of the registry has is not sent again (distribution-spec, mounting).
func TestPushMounts(t *testing.T) {
	needRoot(t)
	var log seen
	mounts := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			switch { // the test registry shares blobs between repositories; hide that, and mount
			case r.Method == http.MethodHead && strings.HasPrefix(r.URL.Path, "/v2/second/blobs/"):
				http.NotFound(w, r)
			case r.Method == http.MethodPost && q.Get("mount") != "" && q.Get("from") == "first":
				w.Header().Set("Location", "/v2/second/blobs/"+q.Get("mount"))
				w.WriteHeader(http.StatusCreated)
			default:
				next.ServeHTTP(w, r)
			}
		})
	}
	host := testRegistry(t, func(next http.Handler) http.Handler { return log.wrap(mounts(next)) })
	s := openStore(t, t.TempDir())
	plain := baseLayers(t)[0]
	layer, config := gz(t, plain), configFor(t, plain)
	putRaw(t, host, "first", "v1", ocispec.MediaTypeImageManifest, ociManifest(t, config, layer), layer, config)
	if _, err := s.Pull(t.Context(), host+"/first:v1", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(host+"/first:v1", host+"/second:v1"); err != nil {
		t.Fatal(err)
	}
	var told []string
	if _, err := s.Push(t.Context(), host+"/second:v1", PushOptions{Progress: func(p Progress) { told = append(told, p.Status) }}); err != nil {
		t.Fatal(err)
	}
	if n := log.count("POST /v2/second/blobs/uploads/?from=first"); n == 0 {
		t.Errorf("no mount was asked for: %q", log.list)
	}
	if strings.Contains(strings.Join(told, "|"), "Pushing") {
		t.Errorf("the layer was sent: %q", told)
	}
}

func TestMirrors(t *testing.T) {
	needRoot(t)
	var log seen
	host := testRegistry(t, log.wrap)
	plain := baseLayers(t)[0]
	layer, config := gz(t, plain), configFor(t, plain)
	putRaw(t, host, "library/web", "v1", ocispec.MediaTypeImageManifest, ociManifest(t, config, layer), layer, config)
	s, err := Open(Config{Dir: t.TempDir(), Registries: Registries{Mirrors: []string{"http://127.0.0.1:1", "http://" + host}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	img, err := s.Pull(t.Context(), "web:v1", PullOptions{Auth: Auth{Username: "ann", Password: "for the hub only"}})
	if err != nil || img.Names[0] != "web:v1" || !strings.HasPrefix(img.RepoDigests[0], "web@sha256:") {
		t.Errorf("%+v %v", img, err)
	}
	if log.count("/v2/library/web/manifests/v1") == 0 {
		t.Error("the mirror was not asked")
	}
	for _, bad := range []string{"mirror", "ftp://x", "https://x/path", "https://u:p@x"} {
		if err := (Registries{Mirrors: []string{bad}}).Validate(); !errors.Is(err, errs.Invalid) {
			t.Errorf("mirror %q: %v", bad, err)
		}
	}
}

// A registry with a certificate of its own: refused in a sentence that says what to do, taken with its authority or when
// listed as insecure. (On loopback any certificate will do as long as no authority is set.)
func TestCertificates(t *testing.T) {
	needRoot(t)
	srv := httptest.NewTLSServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	host := strings.TrimPrefix(srv.URL, "https://")
	dir := t.TempDir()
	open := func(r Registries) *Store {
		s, err := Open(Config{Dir: t.TempDir(), Registries: r})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	if err := os.MkdirAll(filepath.Join(dir, host), 0o755); err != nil {
		t.Fatal(err)
	}
	trusted := open(Registries{CertDirs: []string{dir}})
	ca := filepath.Join(dir, host, "ca.crt")
	err := trusted.Login(t.Context(), host, Auth{})
	if !errors.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "/etc/knarr/certs.d/"+host+"/ca.crt") {
		t.Errorf("a foreign certificate: %v", err)
	}
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := trusted.Login(t.Context(), host, Auth{}); err != nil {
		t.Errorf("with its authority: %v", err)
	}
	if err := open(Registries{Insecure: []string{"127.0.0.0/8"}}).Login(t.Context(), host, Auth{}); err != nil {
		t.Errorf("insecure: %v", err)
	}
	if err := os.WriteFile(ca, []byte("no certificate"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := trusted.Login(t.Context(), host, Auth{}); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), ca) {
		t.Errorf("a broken authority: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, host, "me.cert"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	os.Remove(ca)
	if err := trusted.Login(t.Context(), host, Auth{}); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "me.key") {
		t.Errorf("a client certificate without key: %v", err)
	}
}

func TestEndpoints(t *testing.T) {
	r := Registries{Insecure: []string{"reg.example:5000", "10.0.0.0/8", "other.example"}}
	for host, want := range map[string]string{
		"docker.io": "false false", "reg.example:5000": "true true", "reg.example": "false false", "10.1.2.3:80": "true true",
		"other.example:8443": "true true", "127.0.0.1:5000": "true true", "localhost": "true true", "[::1]:5000": "true true", "11.1.1.1": "false false",
	} {
		ep := r.endpoint(host)
		if got := fmt.Sprint(ep.plain, ep.insecure); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}

func TestSearch(t *testing.T) {
	old := http.NewServeMux()
	old.HandleFunc("/v1/search", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"results":[{"name":"team/%s","description":"d","star_count":3,"is_official":true}]}`, r.URL.Query().Get("q"))
	})
	srv := httptest.NewServer(old)
	t.Cleanup(srv.Close)
	none := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(none.Close)
	catalog := testRegistry(t, nil)
	putRaw(t, catalog, "team/web", "v1", ocispec.MediaTypeImageManifest, ociManifest(t, []byte("{}")), []byte("{}"))
	putRaw(t, catalog, "team/db", "v1", ocispec.MediaTypeImageManifest, ociManifest(t, []byte("{}")))
	s := openStore(t, t.TempDir())
	host := strings.TrimPrefix(srv.URL, "http://")
	if got, err := s.Search(t.Context(), host+"/web", 0, Auth{}); err != nil || len(got) != 1 || got[0] != (SearchResult{host + "/team/web", "d", 3, true, false}) {
		t.Errorf("search: %v %v", got, err)
	}
	if got, err := s.Search(t.Context(), catalog+"/we", 5, Auth{}); err != nil || len(got) != 1 || got[0].Name != catalog+"/team/web" {
		t.Errorf("catalog: %v %v", got, err)
	}
	if _, err := s.Search(t.Context(), strings.TrimPrefix(none.URL, "http://")+"/x", 5, Auth{}); !errors.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "offers no search") {
		t.Errorf("neither: %v", err)
	}
}

func TestTagsAndAsk(t *testing.T) {
	host := testRegistry(t, nil)
	plain := tarOf(t, entry{name: "f"})
	layer, config := gz(t, plain), configFor(t, plain)
	m := ociManifest(t, config, layer)
	for _, tag := range []string{"b", "a"} {
		putRaw(t, host, "x/y", tag, ocispec.MediaTypeImageManifest, m, layer, config)
	}
	s := openStore(t, t.TempDir())
	if got, err := s.Tags(t.Context(), host+"/x/y", PullOptions{}); err != nil || fmt.Sprint(got) != "[a b]" {
		t.Errorf("tags: %v %v", got, err)
	}
	d, err := s.Ask(t.Context(), host+"/x/y:a", PullOptions{})
	if err != nil || d.Descriptor.Size != int64(len(m)) || d.Descriptor.MediaType != ocispec.MediaTypeImageManifest || len(d.Platforms) != 1 || d.Platforms[0].OS != "linux" {
		t.Errorf("ask: %+v %v", d, err)
	}
}

func TestNextPage(t *testing.T) {
	from := httptest.NewRequest("GET", "https://reg.example/v2/x/tags/list?n=2", nil).URL
	for link, want := range map[string]string{
		"": "", `</v2/x/tags/list?n=2&last=b>; rel="next"`: "https://reg.example/v2/x/tags/list?n=2&last=b", `</v2/x>; rel="prev"`: "",
		`<https://evil.example/v2/x>; rel="next"`: "error", `<http://reg.example/v2/x>; rel="next"`: "error", `</v2/x/tags/list?n=2>; rel=next`: "error",
	} {
		got, err := nextPage(from, link)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", link, got, want)
		}
	}
}

// Nothing stalls where no name server answers.
func TestUnknownHostIsSaidSoon(t *testing.T) {
	s := openStore(t, t.TempDir())
	start := time.Now()
	_, err := s.Pull(t.Context(), "no-such-host.invalid/x", PullOptions{})
	if !errors.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "no-such-host.invalid") {
		t.Errorf("%v", err)
	}
	if _, err := s.Search(t.Context(), "no-such-host.invalid/x", 0, Auth{}); err == nil || !strings.Contains(err.Error(), "no-such-host.invalid") {
		t.Errorf("%v", err)
	}
	if d := time.Since(start); d > 15*time.Second {
		t.Errorf("it took %s", d)
	}
}
