// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRemoteContext(t *testing.T) {
	w := newWorld(t)
	packed := archive(t, tar.Header{Name: "Dockerfile", Uname: "FROM scratch\nCOPY f /\n"}, tar.Header{Name: "f", Uname: "from a tar"})
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/tar" {
			rw.Write(packed)
		} else {
			rw.Write([]byte("FROM scratch\nCOPY <<EOF /g\nalone\nEOF\n"))
		}
	}))
	defer srv.Close()
	w.want(w.view(w.build(Request{Remote: srv.URL + "/tar"})), "f", "from a tar")
	w.want(w.view(w.build(Request{Remote: srv.URL + "/file"})), "g", "alone\n")
	src := gitServer(t, `mkdir d; echo x > d/f; printf 'FROM scratch\nCOPY f /\n' > d/Dockerfile; git add .; git commit -qm 1`)
	w.want(w.view(w.build(Request{Remote: src + "#main:d"})), "f", "x\n")
	for remote, want := range map[string]string{"ftp://x/y": "want a git repository", src + "#main:d/f": "not a directory"} {
		if _, err := w.try(Request{Remote: remote}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", remote, err)
		}
	}
}

func TestCacheFrom(t *testing.T) {
	w := newWorld(t)
	w.busybox()
	dir := w.context(map[string]string{"f": "x"})
	const file = "FROM busybox\nENV A=b\nCOPY f /\nRUN date +%N > /when\nCMD [\"x\"]\n"
	first := w.build(Request{ContextDir: dir, Source: []byte(file), Tags: []string{"first"}})
	if err := w.b.PruneCache(); err != nil {
		t.Fatal(err)
	}
	runs := w.run.runs
	again := w.build(Request{ContextDir: dir, Source: []byte(file), CacheFrom: []string{"missing:x", "first"}})
	if w.run.runs != runs || strings.Join(digests(again.Layers), " ") != strings.Join(digests(first.Layers), " ") || again.Config.Config.Cmd[0] != "x" {
		t.Errorf("run again: %v %v\n%s", again.Layers, first.Layers, w.out.String())
	}
	if err := w.b.PruneCache(); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, "f"), []byte("y"), 0o644)
	if w.build(Request{ContextDir: dir, Source: []byte(file), CacheFrom: []string{"first"}}); w.run.runs != runs+1 {
		t.Error("another file must run the step after it")
	}
}

func digests[T ~string](list []T) []string {
	var out []string
	for _, d := range list {
		out = append(out, string(d))
	}
	return out
}

// Every Dockerfile of examples is one without faults.
func TestExamplesCompile(t *testing.T) {
	files, err := filepath.Glob("../../examples/*/Dockerfile")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Compile(data, Args{File: f}); err != nil {
			t.Error(err)
		}
	}
}

// FuzzDockerignore: patterns of a context are a stranger's.
func FuzzDockerignore(f *testing.F) {
	f.Add("*.log\n!a/b\n**/x\n# c\n")
	f.Add("[\n")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, ".dockerignore"), []byte(text), 0o600)
		os.WriteFile(filepath.Join(dir, "f"), nil, 0o600)
		e := &execution{req: Request{ContextDir: dir}}
		tr, err := e.openContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tr.close()
		if tr.ignore("Dockerfile") == nil {
			tr.find("*", true)
		}
	})
}
