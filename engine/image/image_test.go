// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/knarr/knarr/internal/errs"
)

// entry is one entry of a test tar; the type is guessed from what is set.
type entry struct {
	name, body, link string
	mode             int64
	typ              byte
	pax              map[string]string
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Typeflag: e.typ, Linkname: e.link, Size: int64(len(e.body)), ModTime: time.Unix(1500000000, 0), PAXRecords: e.pax}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
			if e.link != "" {
				h.Typeflag = tar.TypeSymlink
			} else if strings.HasSuffix(e.name, "/") {
				h.Typeflag = tar.TypeDir
			}
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func gz(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func configFor(t testing.TB, layers ...[]byte) []byte {
	t.Helper()
	now := time.Unix(1600000000, 0).UTC()
	sp := Spec{}
	sp.Created, sp.OS, sp.Architecture = &now, "linux", runtime.GOARCH
	sp.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	for _, l := range layers {
		sp.RootFS.DiffIDs = append(sp.RootFS.DiffIDs, digest.FromBytes(l))
	}
	sp.Config.Cmd = []string{"/hello"}
	sp.Config.Shell = []string{"/bin/sh", "-c"}
	data, err := json.Marshal(sp)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// dockerArchive is what `docker save` wrote for years: manifest.json at the end.
func dockerArchive(t testing.TB, name string, layers ...[]byte) []byte {
	t.Helper()
	cfg := configFor(t, layers...)
	m := dockerManifest{Config: digest.FromBytes(cfg).Encoded() + ".json", RepoTags: []string{name}}
	var es []entry
	for i, l := range layers {
		p := digest.FromBytes(l).Encoded() + "/layer.tar"
		if !slices.Contains(m.Layers, p) {
			es = append(es, entry{name: p, body: string(l)})
		}
		m.Layers = append(m.Layers, p)
		_ = i
	}
	mj, _ := json.Marshal([]dockerManifest{m})
	return tarOf(t, append(es, entry{name: m.Config, body: string(cfg)}, entry{name: "manifest.json", body: string(mj)})...)
}

func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func load(t testing.TB, s *Store, archive []byte) Image {
	t.Helper()
	imgs, err := s.Load(t.Context(), bytes.NewReader(archive), LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return imgs[len(imgs)-1]
}

// mounted mounts a snapshot for the time of the test.
func mounted(t testing.TB, s *Store, key string) string {
	t.Helper()
	dir := t.TempDir()
	if err := s.Mount(key, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Unmount(dir) })
	return dir
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts overlayfs")
	}
}

func wantFile(t testing.TB, name, content string) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil || string(got) != content {
		t.Errorf("%s: %q, %v; want %q", name, got, err, content)
	}
}

func wantGone(t testing.TB, name string) {
	t.Helper()
	if _, err := os.Lstat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is there (%v)", name, err)
	}
}

func baseLayers(t testing.TB) [][]byte {
	return [][]byte{
		tarOf(t, entry{name: "hello", body: "one", mode: 0o755}, entry{name: "etc/"}, entry{name: "etc/passwd", body: "root:x:0:0::/:/bin/sh\n"},
			entry{name: "d/"}, entry{name: "d/a", body: "a"}, entry{name: "d/b", body: "b"}, entry{name: "o/x", body: "x"}),
		tarOf(t, entry{name: "d/.wh.a"}, entry{name: "o/.wh..wh..opq"}, entry{name: "o/y", body: "y"}, entry{name: "link", link: "/etc/passwd"},
			entry{name: "hard", link: "hello", typ: tar.TypeLink}),
	}
}

func TestLoadPrepareMount(t *testing.T) {
	needRoot(t)
	s := openStore(t, t.TempDir())
	img := load(t, s, dockerArchive(t, "web:v1", baseLayers(t)...))
	if !slices.Equal(img.Names, []string{"web:v1"}) || !img.Local || len(img.Layers) != 2 {
		t.Fatalf("%+v", img)
	}
	snap, err := s.Prepare(t.Context(), "c1", img, InitFiles{Hosts: []byte("127.0.0.1 localhost\n"), Hostname: []byte("c1\n")})
	if err != nil {
		t.Fatal(err)
	}
	m := mounted(t, s, "c1")
	wantFile(t, m+"/hello", "one")
	wantFile(t, m+"/hard", "one") // a hard link across layers
	wantFile(t, m+"/d/b", "b")
	wantGone(t, m+"/d/a")
	wantFile(t, m+"/o/y", "y")
	wantGone(t, m+"/o/x")
	wantFile(t, m+"/etc/hosts", "127.0.0.1 localhost\n")
	wantFile(t, m+"/etc/hostname", "c1\n")
	wantFile(t, filepath.Join(snap.Lower[0], "etc/hostname"), "c1\n")
	for _, d := range []string{"dev/pts", "proc", "sys"} {
		if fi, err := os.Stat(filepath.Join(m, d)); err != nil || !fi.IsDir() {
			t.Error(d, err)
		}
	}
	if err := s.Mount("c1", m); !errors.Is(err, errs.Exists) {
		t.Errorf("second mount: %v", err)
	}
	if _, err := s.Prepare(t.Context(), "c1", img, InitFiles{}); !errors.Is(err, errs.Exists) {
		t.Errorf("second prepare: %v", err)
	}
}

func TestChangesAndCommit(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	s := openStore(t, dir)
	img := load(t, s, dockerArchive(t, "web:v1", baseLayers(t)...))
	if _, err := s.Prepare(t.Context(), "c1", img, InitFiles{Hosts: []byte("h")}); err != nil {
		t.Fatal(err)
	}
	m := mounted(t, s, "c1")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(m+"/hello", []byte("two"), 0o755))
	must(os.WriteFile(m+"/new", []byte("n"), 0o600))
	must(os.WriteFile(m+"/etc/hosts", []byte("changed"), 0o600))
	must(os.Remove(m + "/d/b"))
	must(os.RemoveAll(m + "/o"))
	must(os.Mkdir(m+"/o", 0o700))
	got, err := s.Changes("c1")
	must(err)
	var lines []string
	for _, c := range got {
		lines = append(lines, c.Kind.String()+" "+c.Path)
	}
	want := "C /d|D /d/b|C /etc|C /etc/hosts|C /hello|A /new|C /o|D /o/y"
	if g := strings.Join(lines, "|"); g != want {
		t.Errorf("changes:\n got %s\nwant %s", g, want)
	}
	second, err := s.CommitSnapshot(t.Context(), "c1", CommitOptions{Name: "web:v2", Author: "me", Message: "why"})
	must(err)
	if len(second.Layers) != 3 || second.Parent != img.ID || second.Config.Config.Cmd[0] != "/hello" || second.Config.Author != "me" {
		t.Errorf("%+v", second)
	}
	must(s.Unmount(m))
	s.Close()
	s = openStore(t, dir) // every start is a recovery
	second, err = s.Get("web:v2")
	must(err)
	_, err = s.Prepare(t.Context(), "c2", second, InitFiles{})
	must(err)
	m = mounted(t, s, "c2")
	wantFile(t, m+"/hello", "two")
	wantFile(t, m+"/new", "n")
	wantGone(t, m+"/d/b")
	wantGone(t, m+"/o/y")
	wantFile(t, m+"/etc/hosts", "") // the init layer's is never committed
	if third, err := s.CommitSnapshot(t.Context(), "c2", CommitOptions{Name: "web:v3"}); err != nil || len(third.Layers) != 3 || !third.Config.History[len(third.Config.History)-1].EmptyLayer {
		t.Errorf("commit without changes: %+v %v", third.Config.History, err)
	}
}

func TestSaveFromPackedLayer(t *testing.T) {
	needRoot(t)
	s := openStore(t, t.TempDir())
	img := load(t, s, dockerArchive(t, "web:v1", baseLayers(t)...))
	s.Prepare(context.Background(), "b", img, InitFiles{None: true})
	m := mounted(t, s, "b")
	os.WriteFile(m+"/new", []byte("n"), 0o600)
	os.Remove(m + "/hello")
	if err := s.Unmount(m); err != nil {
		t.Fatal(err)
	}
	v2, err := s.CommitSnapshot(t.Context(), "b", CommitOptions{Name: "web:v2", Consume: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Snapshots()) != 0 {
		t.Error("the consumed snapshot is there")
	}
	l := s.layers[v2.chain[2]]
	if l.Blob != nil {
		t.Fatal("a layer made here should have no second copy")
	}
	r, err := s.openLayer(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if d, err := digest.FromReader(r); err != nil || d != l.DiffID {
		t.Errorf("packed again: %s %v, want %s", d, err, l.DiffID)
	}
}
