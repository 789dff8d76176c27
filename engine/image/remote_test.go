// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/internal/errs"
)

// testRegistry is a registry on loopback; wrap may stand before it.
func testRegistry(t *testing.T, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		h = wrap(h)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

func TestPushAndPull(t *testing.T) {
	needRoot(t)
	host := testRegistry(t, nil)
	a, b := openStore(t, t.TempDir()), openStore(t, t.TempDir())
	ref := host + "/team/web:v1"
	img := load(t, a, dockerArchive(t, ref, baseLayers(t)...))
	d, err := a.Push(t.Context(), ref, PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	got, err := b.Pull(t.Context(), ref, PullOptions{Progress: func(p Progress) { seen = append(seen, p.Status) }})
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != img.ID || got.Local || got.RepoDigests[0] != host+"/team/web@"+d.Digest.String() || got.Names[0] != ref {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{"Pulling from team/web", "Pulling fs layer", "Download complete", "Pull complete", "Digest: " + d.Digest.String()} {
		if !strings.Contains(strings.Join(seen, "|"), want) {
			t.Errorf("no progress %q in %q", want, seen)
		}
	}
	if same, err := b.Get(host + "/team/web@" + d.Digest.String()); err != nil || same.ID != img.ID {
		t.Errorf("by digest: %v %v", same.ID, err)
	}
	seen = nil
	if _, err := b.Pull(t.Context(), host+"/team/web@"+d.Digest.String(), PullOptions{Progress: func(p Progress) { seen = append(seen, p.Status) }}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(strings.Join(seen, "|"), "Already exists"); n != 2 {
		t.Errorf("second pull: %q", seen)
	}
	// What was pulled goes out as it came.
	if err := b.Tag(ref, host+"/team/web:v2"); err != nil {
		t.Fatal(err)
	}
	if d2, err := b.Push(t.Context(), host+"/team/web:v2", PushOptions{}); err != nil || d2 != d {
		t.Errorf("pushed again: %v %v, want %v", d2, err, d)
	}
	if _, err := b.Prepare(t.Context(), "c", got, InitFiles{}); err != nil {
		t.Fatal(err)
	}
	wantFile(t, mounted(t, b, "c")+"/hello", "one")
}

func TestPullErrors(t *testing.T) {
	host := testRegistry(t, nil)
	s := openStore(t, t.TempDir())
	_, err := s.Pull(t.Context(), host+"/no/such:v1", PullOptions{})
	if !errors.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "manifest for "+host+"/no/such:v1 not found") {
		t.Errorf("missing: %v", err)
	}
	_, err = s.Pull(t.Context(), "127.0.0.1:1/x", PullOptions{})
	if !errors.Is(err, errs.Unavailable) {
		t.Errorf("nobody there: %v", err)
	}
	_, err = s.Push(t.Context(), host+"/no/such:v1", PushOptions{})
	if !errors.Is(err, errs.NotFound) {
		t.Errorf("push of nothing: %v", err)
	}
}

// putRaw stores blobs and a manifest in a registry without any of our code.
func putRaw(t *testing.T, host, repo, tag, mediaType string, manifest []byte, blobs ...[]byte) {
	t.Helper()
	do := func(method, url, ct string, body []byte) *http.Response {
		req, err := http.NewRequest(method, url, strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", ct)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode >= 300 {
			t.Fatalf("%s %s: %s", method, url, resp.Status)
		}
		return resp
	}
	base := "http://" + host + "/v2/" + repo
	for _, b := range blobs {
		do("POST", base+"/blobs/uploads/?digest="+digest.FromBytes(b).String(), "application/octet-stream", b)
	}
	do("PUT", base+"/manifests/"+tag, mediaType, manifest)
}

func ociManifest(t *testing.T, config []byte, layers ...[]byte) []byte {
	t.Helper()
	m := map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest,
		"config": ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}}
	list := []ocispec.Descriptor{}
	for _, l := range layers {
		list = append(list, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(l), Size: int64(len(l))})
	}
	m["layers"] = list
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestPullIndexPicksPlatform(t *testing.T) {
	needRoot(t)
	host := testRegistry(t, nil)
	s := openStore(t, t.TempDir())
	plain := baseLayers(t)[0]
	layer, config := gz(t, plain), configFor(t, plain)
	m := ociManifest(t, config, layer)
	putRaw(t, host, "x", "one", ocispec.MediaTypeImageManifest, m, layer, config)
	foreign := ociManifest(t, []byte("{}"), layer) // listed first, never to be fetched
	putRaw(t, host, "x", "other", ocispec.MediaTypeImageManifest, foreign, []byte("{}"))
	host64, _ := parsePlatform("")
	index := func(arch string) []byte {
		return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":3,"platform":{"os":"linux","architecture":"s390x"}},{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":%q}}]}`,
			ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, digest.FromBytes(foreign), ocispec.MediaTypeImageManifest, digest.FromBytes(m), len(m), arch)
	}
	putRaw(t, host, "x", "multi", ocispec.MediaTypeImageIndex, index(host64.Architecture))
	if img, err := s.Pull(t.Context(), host+"/x:multi", PullOptions{}); err != nil || img.ID != digest.FromBytes(config) {
		t.Errorf("%v %v", img.ID, err)
	}
	_, err := s.Pull(t.Context(), host+"/x:multi", PullOptions{Platform: "linux/riscv64"})
	if !errors.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "no matching manifest for linux/riscv64") {
		t.Errorf("wrong architecture in an index: %v", err)
	}
	_, err = s.Pull(t.Context(), host+"/x:one", PullOptions{Platform: "linux/riscv64"})
	if !errors.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "not for linux/riscv64") {
		t.Errorf("wrong architecture of an image: %v", err)
	}
}

func TestDownloadResumes(t *testing.T) {
	needRoot(t)
	var cut, ranges atomic.Int32
	host := testRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				if r.Header.Get("Range") != "" {
					ranges.Add(1)
				} else if cut.Add(1) <= 2 { // config first, then the layer once
					rec := httptest.NewRecorder()
					next.ServeHTTP(rec, r)
					body := rec.Body.Bytes()
					if len(body) > 100_000 {
						w.Header().Set("Content-Length", fmt.Sprint(len(body)))
						w.Write(body[:70_000])
						panic(http.ErrAbortHandler)
					}
				}
			}
			next.ServeHTTP(w, r)
		})
	})
	s := openStore(t, t.TempDir())
	random := make([]byte, 300_000)
	f, _ := os.Open("/dev/urandom")
	io.ReadFull(f, random)
	f.Close()
	plain := tarOf(t, entry{name: "big", body: string(random)})
	layer, config := gz(t, plain), configFor(t, plain)
	putRaw(t, host, "big", "v1", ocispec.MediaTypeImageManifest, ociManifest(t, config, layer), layer, config)
	if _, err := s.Pull(t.Context(), host+"/big:v1", PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if ranges.Load() == 0 {
		t.Error("the interrupted layer was fetched from the start")
	}
}

func TestPullRefusesLies(t *testing.T) {
	needRoot(t)
	host := testRegistry(t, nil)
	s := openStore(t, t.TempDir())
	plain, other := baseLayers(t)[0], tarOf(t, entry{name: "evil", body: "x"})
	layer, config := gz(t, plain), configFor(t, other)
	putRaw(t, host, "lie", "diffid", ocispec.MediaTypeImageManifest, ociManifest(t, config, layer), layer, config)
	if _, err := s.Pull(t.Context(), host+"/lie:diffid", PullOptions{}); !errors.Is(err, errs.Invalid) {
		t.Errorf("layer with another diffID: %v", err)
	}
	if len(s.List()) != 0 || len(s.layers) != 0 {
		t.Error("something was kept")
	}
}

func TestRedirects(t *testing.T) {
	via := func(u string) []*http.Request {
		r, _ := http.NewRequest("GET", u, nil)
		return []*http.Request{r}
	}
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"https://reg.example/v2/", "https://storage.example/x", true},
		{"https://reg.example/v2/", "http://storage.example/x", false},
		{"https://reg.example/v2/", "https://169.254.169.254/latest", false},
		{"https://reg.example/v2/", "https://127.0.0.1/x", false},
		{"https://reg.example/v2/", "https://localhost:2375/x", false},
		{"https://reg.example/v2/", "https://[::1]/x", false},
		{"http://127.0.0.1:5000/v2/", "http://127.0.0.1:5000/y", true},
		{"http://127.0.0.1:5000/v2/", "http://127.0.0.1:2375/y", false},
	} {
		req, _ := http.NewRequest("GET", c.to, nil)
		if err := checkRedirect(req, via(c.from)); (err == nil) != c.ok {
			t.Errorf("%s to %s: %v", c.from, c.to, err)
		}
	}
}
