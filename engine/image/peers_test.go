// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// peered opens a store that asks others first; a dead peer is always among them.
func peered(t *testing.T, others ...*Store) *Store {
	t.Helper()
	peers := []Peer{{URL: "http://127.0.0.1:1"}}
	for _, o := range others {
		srv := httptest.NewServer(o.Serve())
		t.Cleanup(srv.Close)
		peers = append(peers, Peer{URL: srv.URL})
	}
	s, err := Open(Config{Dir: t.TempDir(), Registries: Registries{Peers: func() []Peer { return peers }}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// What was built on one node is there on the next without a registry, whichever way its layers are kept.
func TestPeersHaveWhatWasMadeThere(t *testing.T) {
	needRoot(t)
	a := openStore(t, t.TempDir())
	img := load(t, a, dockerArchive(t, "web:v1", baseLayers(t)...))
	if _, err := a.Prepare(t.Context(), "c", img, InitFiles{None: true}); err != nil {
		t.Fatal(err)
	}
	m := mounted(t, a, "c")
	if err := os.WriteFile(filepath.Join(m, "new"), bytes.Repeat([]byte("n"), 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	a.Unmount(m)
	made, err := a.CommitSnapshot(t.Context(), "c", CommitOptions{Name: "web:v2", Consume: true}) // its layer has no blob
	if err != nil {
		t.Fatal(err)
	}
	b := peered(t, a)
	got, err := b.Pull(t.Context(), "web:v2", PullOptions{})
	if err != nil || got.ID != made.ID || got.Local || got.Names[0] != "web:v2" {
		t.Fatalf("%+v %v", got, err)
	}
	if faults := b.Check(t.Context(), true); len(faults) != 0 {
		t.Error(faults)
	}
	if _, err := b.Prepare(t.Context(), "c", got, InitFiles{}); err != nil {
		t.Fatal(err)
	}
	wantFile(t, mounted(t, b, "c")+"/new", strings.Repeat("n", 1<<20))
	// What b has is not b's own: a third node is sent to the origin, by the digest it can have it from b.
	c := peered(t, b)
	if _, err := c.Pull(t.Context(), "127.0.0.1:1/web:v2", PullOptions{}); err == nil {
		t.Error("a tag that was pulled is handed on")
	}
	if _, err := c.Pull(t.Context(), got.RepoDigests[0], PullOptions{}); err != nil {
		t.Errorf("by digest: %v", err)
	}
}

// A tag is the registry's to say; the layers come from the peer that has them.
func TestPeersSaveTheRegistry(t *testing.T) {
	needRoot(t)
	var log seen
	host := testRegistry(t, log.wrap)
	plain := baseLayers(t)[0]
	layer, config := gz(t, plain), configFor(t, plain)
	putRaw(t, host, "web", "v1", ocispec.MediaTypeImageManifest, ociManifest(t, config, layer), layer, config)
	a := openStore(t, t.TempDir())
	if _, err := a.Pull(t.Context(), host+"/web:v1", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	layers := func() int { return log.count("GET /v2/web/blobs/") }
	before := layers()
	b := peered(t, a)
	if _, err := b.Pull(t.Context(), host+"/web:v1", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := layers() - before; n != 1 { // the config
		t.Errorf("the registry was asked for %d blobs: %q", n, log.list)
	}
}

func TestServeRefuses(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/v2/", 200}, {"PUT", "/v2/x/manifests/v1", 405}, {"DELETE", "/v2/", 405}, {"GET", "/v2/docker.io/library/x/manifests/v1", 404},
		{"GET", "/v2/x/blobs/../../names.json", 400}, {"GET", "/v2/x/blobs/sha256:" + strings.Repeat("0", 64), 404}, {"GET", "/v2/UPPER/manifests/v1", 400},
		{"GET", "/v2//manifests/", 400}, {"GET", "/names.json", 404}, {"GET", "/v2/x/tags/list", 404}, {"GET", "/v2/x/manifests/sha256:" + strings.Repeat("0", 64), 404},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(c.method, "http://peer/", nil)
		r.URL.Path = c.path
		s.Serve().ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s %s: %d, want %d: %s", c.method, c.path, w.Code, c.want, w.Body)
		}
	}
}

func FuzzServe(f *testing.F) {
	for _, p := range []string{"/v2/", "/v2/docker.io/library/web/manifests/v1", "/v2/x/blobs/sha256:00", "/v2/manifests//manifests/x", "/v2/a/blobs/b/manifests/c"} {
		f.Add(p)
	}
	s := openStore(f, f.TempDir())
	f.Fuzz(func(t *testing.T, path string) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "http://peer/", nil)
		r.URL.Path = path
		s.Serve().ServeHTTP(w, r)
		if w.Code == http.StatusInternalServerError || w.Code == 200 && strings.TrimSuffix(path, "/") != "/v2" {
			t.Errorf("%q: %d %s", path, w.Code, w.Body)
		}
	})
}
