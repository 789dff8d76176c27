// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/engine/layer"
	"github.com/knarr/knarr/internal/errs"
)

// ociLayout is an OCI layout tar with gzip layers, named as containerd names.
func ociLayout(t testing.TB, name string, layers ...[]byte) []byte {
	t.Helper()
	cfg := configFor(t, layers...)
	es := []entry{{name: "oci-layout", body: `{"imageLayoutVersion":"1.0.0"}`}, {name: ociBlobPath(digest.FromBytes(cfg)), body: string(cfg)}}
	var zipped [][]byte
	for _, l := range layers {
		z := gz(t, l)
		zipped = append(zipped, z)
		es = append(es, entry{name: ociBlobPath(digest.FromBytes(z)), body: string(z)})
	}
	m := func() []byte { tt, _ := t.(*testing.T); return ociManifest(tt, cfg, zipped...) }()
	es = append(es, entry{name: ociBlobPath(digest.FromBytes(m)), body: string(m)})
	idx, _ := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(m), Size: int64(len(m)), Annotations: map[string]string{annotationName: name}}}})
	return tarOf(t, append(es, entry{name: "index.json", body: string(idx)})...)
}

func TestLoadForms(t *testing.T) {
	needRoot(t)
	layers := baseLayers(t)
	archive := dockerArchive(t, "docker.io/library/web:v1", layers...)
	var z bytes.Buffer
	zw, _ := zstd.NewWriter(&z)
	zw.Write(archive)
	zw.Close()
	id := digest.FromBytes(configFor(t, layers...))
	for name, data := range map[string][]byte{"docker-archive": archive, "gzip": gz(t, archive), "zstd": z.Bytes(), "OCI layout": ociLayout(t, "docker.io/library/web:v1", layers...)} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			img := load(t, s, data)
			if img.ID != id || len(img.Names) != 1 || img.Names[0] != "web:v1" || img.Size == 0 {
				t.Errorf("%s %v %d", img.ID, img.Names, img.Size)
			}
		})
	}
}

func TestSaveAndLoadAgain(t *testing.T) {
	needRoot(t)
	a, b, c := openStore(t, t.TempDir()), openStore(t, t.TempDir()), openStore(t, t.TempDir())
	img := load(t, a, dockerArchive(t, "web:v1", baseLayers(t)...))
	if err := a.Tag("web:v1", "web:v2"); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := a.Save(t.Context(), &buf, []string{"web"}); err != nil {
		t.Fatal(err)
	}
	again := load(t, b, buf.Bytes())
	if again.ID != img.ID || strings.Join(again.Names, " ") != "web:v1 web:v2" {
		t.Errorf("%s %v", again.ID, again.Names)
	}
	// The same archive without manifest.json is an OCI layout.
	var oci bytes.Buffer
	tw := tar.NewWriter(&oci)
	for tr := tar.NewReader(bytes.NewReader(buf.Bytes())); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if h.Name != "manifest.json" {
			tw.WriteHeader(h)
			io.Copy(tw, tr)
		}
	}
	tw.Close()
	again = load(t, c, oci.Bytes())
	if again, _ = c.Get(string(again.ID)); again.ID != img.ID || strings.Join(again.Names, " ") != "web:v1 web:v2" {
		t.Errorf("as OCI layout: %s %v", again.ID, again.Names)
	}
	if err := a.Save(t.Context(), io.Discard, []string{"nope"}); !errors.Is(err, errs.NotFound) {
		t.Error(err)
	}
}

func TestLoadRefuses(t *testing.T) {
	needRoot(t)
	l := baseLayers(t)[0]
	cfg := string(configFor(t, l))
	for name, c := range map[string]struct {
		data []byte
		kind error
	}{
		"no image":       {tarOf(t, entry{name: "etc/passwd", body: "x"}), errs.Invalid},
		"no tar":         {bytes.Repeat([]byte("hello world "), 100), errs.Invalid},
		"cut":            {dockerArchive(t, "w", l)[:3000], errs.Invalid},
		"missing layer":  {tarOf(t, entry{name: "c", body: cfg}, entry{name: "manifest.json", body: `[{"Config":"c","Layers":["l"]}]`}), errs.Invalid},
		"other layer":    {tarOf(t, entry{name: "c", body: cfg}, entry{name: "l", body: string(tarOf(t, entry{name: "evil"}))}, entry{name: "manifest.json", body: `[{"Config":"c","Layers":["l"]}]`}), errs.Invalid},
		"layer count":    {tarOf(t, entry{name: "c", body: cfg}, entry{name: "manifest.json", body: `[{"Config":"c","Layers":[]}]`}), errs.Invalid},
		"bad name":       {tarOf(t, entry{name: "c", body: cfg}, entry{name: "l", body: string(l)}, entry{name: "manifest.json", body: `[{"Config":"c","RepoTags":["UPPER CASE"],"Layers":["l"]}]`}), errs.Invalid},
		"link to host":   {tarOf(t, entry{name: "c", link: "../../../../etc/passwd"}, entry{name: "manifest.json", body: `[{"Config":"c","Layers":[]}]`}), errs.Invalid},
		"link circle":    {tarOf(t, entry{name: "a", link: "b"}, entry{name: "b", link: "a"}, entry{name: "manifest.json", body: `[{"Config":"a","Layers":[]}]`}), errs.Invalid},
		"config too big": {tarOf(t, entry{name: "c", body: strings.Repeat(" ", maxConfigSize+1)}, entry{name: "manifest.json", body: `[{"Config":"c","Layers":[]}]`}), errs.TooLarge},
		"empty":          {nil, errs.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			_, err := s.Load(t.Context(), bytes.NewReader(c.data), LoadOptions{})
			if !errors.Is(err, c.kind) {
				t.Error(err)
			}
			if len(s.List()) != 0 {
				t.Error("an image was kept")
			}
			if left, _ := os.ReadDir(s.path(partialDir)); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestImport(t *testing.T) {
	needRoot(t)
	s := openStore(t, t.TempDir())
	img, err := s.Import(t.Context(), bytes.NewReader(gz(t, baseLayers(t)[0])), ImportOptions{Name: "root:v1", Message: "by hand"})
	if err != nil {
		t.Fatal(err)
	}
	if len(img.Layers) != 1 || img.Names[0] != "root:v1" || img.Config.History[0].Comment != "by hand" {
		t.Errorf("%+v", img)
	}
	var buf bytes.Buffer
	if err := s.Save(t.Context(), &buf, []string{"root:v1"}); err != nil {
		t.Error(err)
	}
	if _, err := s.Import(t.Context(), bytes.NewReader(tarOf(t)), ImportOptions{}); !errors.Is(err, errs.Invalid) {
		t.Errorf("empty: %v", err)
	}
}

// More layers than fit in a page of mount options.
func TestManyLayers(t *testing.T) {
	needRoot(t)
	s := openStore(t, t.TempDir())
	var layers [][]byte
	for i := range 150 {
		layers = append(layers, tarOf(t, entry{name: "n", body: strings.Repeat("x", i)}))
	}
	img := load(t, s, dockerArchive(t, "deep", layers...))
	snap, err := s.Prepare(t.Context(), "c", img, InitFiles{})
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, mounted(t, s, "c")+"/n", strings.Repeat("x", 149))
	dir := t.TempDir()
	if err := s.MountReadOnly(img, dir); err != nil {
		t.Fatal(err)
	}
	defer s.Unmount(dir)
	wantFile(t, dir+"/n", strings.Repeat("x", 149))
	// The way for kernels without lowerdir+ holds as many.
	old := t.TempDir()
	if err := mountByOptions(overlay{lower: snap.Lower}, old); err != nil {
		t.Fatal(err)
	}
	defer s.Unmount(old)
	wantFile(t, old+"/n", strings.Repeat("x", 149))
}

// Row 6: where the image has a link in place of a directory, the init layer keeps its hands off, and the host is not touched.
func TestInitLayerOverHostileImage(t *testing.T) {
	needRoot(t)
	victim := t.TempDir()
	s := openStore(t, t.TempDir())
	img := load(t, s, dockerArchive(t, "evil", tarOf(t, entry{name: "etc", link: victim}, entry{name: "dev", link: "/tmp/x"}, entry{name: "proc", body: "file"},
		entry{name: "opt/"}, entry{name: "opt/x", link: victim})))
	if _, err := s.Prepare(t.Context(), "c", img, InitFiles{Hosts: []byte("evil"), Dirs: []string{"/opt/x/sub", "../../" + victim}, Files: []string{"/etc/more"}}); err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(victim); err != nil || len(list) != 0 {
		t.Errorf("host folder: %v %v", list, err)
	}
	m := mounted(t, s, "c")
	if to, err := os.Readlink(m + "/etc"); err != nil || to != victim {
		t.Errorf("/etc: %q %v", to, err)
	}
	if fi, err := os.Lstat(m + "/proc"); err != nil || !fi.Mode().IsRegular() {
		t.Errorf("/proc: %v %v", fi, err)
	}
}

// Directories of the init layer hide those of the image, and so must look like them.
func TestInitLayerKeepsAttributes(t *testing.T) {
	needRoot(t)
	s := openStore(t, t.TempDir())
	img := load(t, s, dockerArchive(t, "x", tarOf(t, entry{name: "./", mode: 0o711}, entry{name: "etc/", mode: 0o750}, entry{name: "etc/hosts", body: "image's"})))
	if _, err := s.Prepare(t.Context(), "c", img, InitFiles{}); err != nil {
		t.Fatal(err)
	}
	m := mounted(t, s, "c")
	wantFile(t, m+"/etc/hosts", "image's")
	for name, want := range map[string]os.FileMode{"": 0o711, "etc": 0o750, "proc": 0o755} {
		if fi, err := os.Stat(filepath.Join(m, name)); err != nil || fi.Mode().Perm() != want {
			t.Errorf("/%s: %v %v", name, fi.Mode(), err)
		}
	}
}

// Row 16 through the front door: Limits of the store hold for Load.
func TestLoadBomb(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	s, err := Open(Config{Dir: dir, Limits: layer.Limits{Bytes: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	bomb := tarOf(t, entry{name: "etc/group", body: strings.Repeat("\x00", 8<<20)})
	_, err = s.Load(t.Context(), bytes.NewReader(gz(t, dockerArchive(t, "bomb", bomb))), LoadOptions{})
	if !errors.Is(err, errs.TooLarge) {
		t.Error(err)
	}
	if u, err := s.Usage(); err != nil || u.LayerBytes != 0 || u.Layers != 0 {
		t.Errorf("%+v %v", u, err)
	}
}
