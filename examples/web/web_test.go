// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func answer(t *testing.T, root, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	pages(root).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

func TestPages(t *testing.T) {
	full, empty := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"index.html": "front", "a.txt": "a"} {
		if err := os.WriteFile(filepath.Join(full, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(full, "out")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		root, path string
		code       int
		want       string
	}{
		{full, "/", 200, "front"},
		{full, "/a.txt", 200, "a"},
		{full, "/none", 404, ""},
		{full, "/healthz", 200, "ok"},
		{empty, "/", 200, "Ahoy from"},
		{empty, "/x", 404, ""},
		{"/does/not/exist", "/", 200, "Ahoy from"},
	} {
		w := answer(t, c.root, c.path)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s%s: %d %q", c.root, c.path, w.Code, w.Body)
		}
	}
	if w := answer(t, full, "/out"); w.Code == 200 || strings.Contains(w.Body.String(), "root:") {
		t.Errorf("a link leads out of the folder: %d", w.Code)
	}
}

func TestTheLogCannotBeForged(t *testing.T) {
	out := &bytes.Buffer{}
	r := httptest.NewRequest("GET", "/x", nil)
	r.URL.Path = "/x\nforged"
	logged(log.New(out, "", 0), pages(t.TempDir())).ServeHTTP(httptest.NewRecorder(), r)
	if strings.Count(out.String(), "\n") != 1 || !strings.Contains(out.String(), " 404 ") {
		t.Errorf("%q", out)
	}
}

func TestCommands(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"exit", "7"}, 7},
		{[]string{"write", file, "x"}, 0},
		{[]string{"cat", file}, 0},
		{[]string{"cat", file + "none"}, 1},
		{[]string{"nonsense"}, 2},
		{[]string{"get"}, 2},
		{[]string{"sleep", "0"}, 0},
	} {
		if got := command(t.Context(), c.args[0], c.args[1:]); got != c.want {
			t.Errorf("%v ends with %d, want %d", c.args, got, c.want)
		}
	}
}
