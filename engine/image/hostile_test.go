// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/errs"
)

// The rows of the list of things that must never work that are about images; the numbers are that list's.

// heapDuring runs f and answers by how much the live heap had grown at its highest, as far as a look every millisecond tells.
func heapDuring(f func()) uint64 {
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	stop, done := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-stop:
				done <- most
				return
			case <-tick.C:
				if runtime.ReadMemStats(&now); now.HeapAlloc > before.HeapAlloc {
					most = max(most, now.HeapAlloc-before.HeapAlloc)
				}
			}
		}
	}()
	f()
	close(stop)
	return <-done
}

// Row 16: documents that are huge or deep are refused for their size, before they are understood.
func TestHostileDocuments(t *testing.T) {
	line := fmt.Sprintf(`{"mediaType":%q,"digest":"sha256:%064d","size":1},`, ocispec.MediaTypeImageLayerGzip, 0)
	million := `{"schemaVersion":2,"config":{},"layers":[` + strings.Repeat(line, 1_000_000)
	many := `{"schemaVersion":2,"config":{"digest":"sha256:` + strings.Repeat("0", 64) + `"},"layers":[` + strings.TrimSuffix(strings.Repeat(line, 1000), ",") + `]}`
	deep := `{"schemaVersion":2,"layers":` + strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20) + `}`
	var bodies = map[string]string{"million": million, "many": many, "deep": deep}
	host := testRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, name, ok := strings.Cut(r.URL.Path, "/manifests/"); ok {
				w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
				io.WriteString(w, bodies[name])
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	s := openStore(t, t.TempDir())
	for name, kind := range map[string]error{"million": errs.TooLarge, "many": errs.TooLarge, "deep": errs.Invalid} {
		var err error
		start := time.Now()
		grown := heapDuring(func() { _, err = s.Pull(t.Context(), host+"/x:"+name, PullOptions{}) })
		if !errors.Is(err, kind) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(start); grown > 64<<20 || took > 5*time.Second {
			t.Errorf("%s: %d MiB of heap, %s", name, grown>>20, took)
		}
	}
}

// Row 17: a document that is a manifest and an index at once, or not what it came as, is refused on the way in.
func TestAmbiguousManifestIsNotPulled(t *testing.T) {
	host := testRegistry(t, nil)
	s := openStore(t, t.TempDir())
	config := []byte("{}")
	both := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"digest":%q},"layers":[],"manifests":[]}`, digest.FromBytes(config))
	putRaw(t, host, "x", "both", ocispec.MediaTypeImageManifest, both, config)
	putRaw(t, host, "x", "list", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"manifests":[]}`))
	for _, tag := range []string{"both", "list"} {
		if _, err := s.Pull(t.Context(), host+"/x:"+tag, PullOptions{}); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "ambiguous manifest") {
			t.Errorf("%s: %v", tag, err)
		}
	}
}

// Row 16: a gzip bomb of ten gigabytes costs neither memory nor disk: the store's bound holds, and what was written is gone.
func TestGzipBombInALayer(t *testing.T) {
	needRoot(t)
	s, err := Open(Config{Dir: t.TempDir(), Limits: layer.Limits{Bytes: 64 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	bomb := func(w io.Writer) {
		tw := tar.NewWriter(w)
		tw.WriteHeader(&tar.Header{Name: "etc/group", Typeflag: tar.TypeReg, Mode: 0o644, Size: 10 << 30})
		zeros := make([]byte, 1<<20)
		for range 10 << 10 {
			if _, err := tw.Write(zeros); err != nil {
				return
			}
		}
	}
	pr, pw := io.Pipe()
	go func() {
		z, _ := gzip.NewWriterLevel(pw, gzip.BestSpeed)
		bomb(z)
		pw.CloseWithError(z.Close())
	}()
	grown := heapDuring(func() { _, err = s.Import(t.Context(), pr, ImportOptions{}) })
	pr.Close()
	if !errors.Is(err, errs.TooLarge) {
		t.Error(err)
	}
	if grown > 64<<20 {
		t.Errorf("%d MiB of heap", grown>>20)
	}
	if bytes, _, err := diskUsage(s.Dir()); err != nil || bytes > 1<<20 {
		t.Errorf("%d bytes stay on disk, %v", bytes, err)
	}
}

// Row 14: labels and environment of an image are data, whatever they say.
func TestHostileLabelsStayData(t *testing.T) {
	needRoot(t)
	s := openStore(t, t.TempDir())
	evil := `$(touch /tmp/pwned)` + "\n../../etc/passwd\x00"
	l := baseLayers(t)[0]
	sp, err := parseSpec(configFor(t, l))
	if err != nil {
		t.Fatal(err)
	}
	sp.Config.Labels = map[string]string{evil: evil, "io.knarr.name": "x", "io.containerd.image.name": "evil:v1"}
	sp.Config.Env = []string{evil, "=", ""}
	img, err := s.Put(t.Context(), PutOptions{Base: load(t, s, dockerArchive(t, "web", l)), Config: sp, Names: []string{"evil"}})
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Get("evil")
	if err != nil || again.ID != img.ID || again.Config.Config.Labels[evil] != evil || strings.Join(again.Names, " ") != "evil:latest" {
		t.Errorf("%+v %v", again, err)
	}
}

func FuzzLoad(f *testing.F) {
	l := tarOf(f, entry{name: "f", body: "x"})
	f.Add(dockerArchive(f, "web:v1", l))
	f.Add(tarOf(f, entry{name: "index.json", body: `{"schemaVersion":2,"manifests":[]}`}))
	f.Add(tarOf(f, entry{name: "a", link: "b"}, entry{name: "manifest.json", body: `[{"Config":"a","Layers":["a"]}]`}))
	want, _ := parsePlatform("")
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := stageArchive(t.Context(), t.TempDir(), bytes.NewReader(data))
		if err != nil {
			return
		}
		list, err := a.images(want)
		for _, l := range list {
			if err == nil && len(l.layers) != len(l.spec.RootFS.DiffIDs) {
				t.Errorf("%d files for %d layers", len(l.layers), len(l.spec.RootFS.DiffIDs))
			}
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"rootfs":{"type":"layers","diff_ids":[]}}`))
	f.Add([]byte(`{"rootfs":{"type":"layers","diff_ids":["sha256:x"]},"config":{"Labels":{"a":"b"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		sp, err := parseSpec(data)
		if err != nil {
			return
		}
		for _, d := range sp.RootFS.DiffIDs { // they become file names
			if strings.ContainsAny(d.Encoded(), "/.") || len(d.Encoded()) != 64 {
				t.Errorf("diffID %q", d)
			}
		}
	})
}

func FuzzReference(f *testing.F) {
	for _, n := range []string{"nginx", "localhost:5000/a/b:v1", "a@sha256:" + strings.Repeat("0", 64), "UPPER", "", "a:b:c", "[::1]:5000/x"} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, name string) {
		n, err := ParseName(name)
		if err != nil {
			return
		}
		again, err := ParseName(n.String())
		if err != nil || again.String() != n.String() {
			t.Errorf("%q is %q and then %v, %v", name, n, again, err)
		}
		RegistryHost(name) // must not panic
		Registries{Insecure: []string{name}}.endpoint(name)
	})
}
