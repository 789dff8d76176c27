// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// files lists a tree's regular files, sorted, without the folders named.
func listing(t *testing.T, root string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(root, p)
			out = append(out, rel)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return strings.Join(out, " ")
}

func TestCopyParentsAndExclude(t *testing.T) {
	w := newWorld(t)
	files := map[string]string{"x/a.txt": "xa", "y/a.txt": "ya", "x/deep/er/b.txt": "b", "x/deep/c.md": "c", "top.txt": "t"}
	for line, want := range map[string]string{
		"COPY --parents ./x/a.txt ./y/a.txt /p/":           "p/x/a.txt p/y/a.txt",
		"COPY --parents x/deep /p/":                        "p/x/deep/c.md p/x/deep/er/b.txt",
		"COPY --parents x/./deep/c.md /p/":                 "p/deep/c.md",
		"COPY --parents **/*.txt /p/":                      "p/top.txt p/x/a.txt p/x/deep/er/b.txt p/y/a.txt",
		"COPY --parents x/**/*.txt /p/":                    "p/x/a.txt p/x/deep/er/b.txt",
		"COPY --exclude=*.md --exclude=**/b.txt x /p":      "p/a.txt p/deep/c.md",
		"COPY --exclude=deep . /p/":                        "p/top.txt p/x/a.txt p/x/deep/c.md p/x/deep/er/b.txt p/y/a.txt",
		"COPY --exclude=a.* x/* /p/":                       "p/c.md p/er/b.txt",
		"COPY --link --chmod=0600 top.txt /l/":             "l/top.txt",
		"ADD --exclude=*.md x/deep /p/":                    "p/er/b.txt",
		"COPY --exclude=*.txt --parents x/a.txt x/deep p/": "p/x/deep/c.md p/x/deep/er/b.txt",
	} {
		img, err := w.try(Request{ContextDir: w.context(files), Source: []byte("FROM scratch\n" + line + "\n")})
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got := listing(t, w.view(img)); got != want {
			t.Errorf("%s:\n got %s\nwant %s", line, got, want)
		}
	}
}

func TestAddURL(t *testing.T) {
	w := newWorld(t)
	packed := archive(t, tar.Header{Name: "in", Uname: "packed"})
	body := "from the web"
	gets := 0
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		gets++
		switch r.URL.Path {
		case "/f.txt":
			rw.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
			fmt.Fprint(rw, body)
		case "/a.tar":
			rw.Write(packed)
		default:
			http.NotFound(rw, r)
		}
	}))
	defer srv.Close()
	file := fmt.Sprintf("FROM scratch\nADD %[1]s/f.txt /d/\nADD %[1]s/f.txt?x=1 /named\nADD %[1]s/a.tar /raw/\nADD --unpack=true %[1]s/a.tar /un/\nADD --checksum=%[2]s %[1]s/f.txt /sum\n", srv.URL, digest.FromString(body))
	img := w.build(Request{Source: []byte(file)})
	root := w.view(img)
	for name, want := range map[string]string{"d/f.txt": body, "named": body, "raw/a.tar": string(packed), "un/in": "packed", "sum": body} {
		w.want(root, name, want)
	}
	st, err := os.Stat(filepath.Join(root, "named"))
	if err != nil || st.Mode().Perm() != 0o600 || st.ModTime().Year() != 2006 {
		t.Error(st, err)
	}
	if again := w.build(Request{Source: []byte(file)}); again.ID != img.ID {
		t.Error("an unchanged file was no cache hit")
	}
	body = "changed"
	if _, err := w.try(Request{Source: []byte(file)}); err == nil || !strings.Contains(err.Error(), "digest mismatch") || !strings.Contains(err.Error(), "Dockerfile:6:") {
		t.Error(err)
	}
	for line, want := range map[string]string{
		"ADD " + srv.URL + "/nope /":                               "404 Not Found",
		"ADD --checksum=md5:x " + srv.URL + "/f.txt /":             "want sha256",
		"ADD --checksum=" + string(digest.FromString("")) + " x /": "for URLs and git",
		"ADD git@example.invalid:a/b.git /":                        "git over SSH",
	} {
		if _, err := w.try(Request{ContextDir: w.context(map[string]string{"x": ""}), Source: []byte("FROM scratch\n" + line + "\n")}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// gitServer serves a repository made by script over HTTP.
func gitServer(t *testing.T, script string) string {
	t.Helper()
	backend := "/usr/lib/git-core/git-http-backend"
	if _, err := os.Stat(backend); err != nil {
		t.Skip("needs git: ", err)
	}
	dir := t.TempDir()
	cmd := exec.Command("sh", "-ec", "git init -q -b main r; cd r; git config user.email a@b; git config user.name n; git config uploadpack.allowAnySHA1InWant true; "+script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_COMMITTER_DATE=2001-09-09T01:46:40Z", "GIT_AUTHOR_DATE=2001-09-09T01:46:40Z")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Rename(filepath.Join(dir, "r"), filepath.Join(dir, "repo.git")); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(&cgi.Handler{Path: backend, Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + dir, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}})
	t.Cleanup(srv.Close)
	return srv.URL + "/repo.git"
}

func TestAddGit(t *testing.T) {
	host := t.TempDir()
	src := gitServer(t, `echo one > f; mkdir d; echo x > d/g; chmod +x d/g; ln -s `+host+` out; git add .; git commit -qm 1; git tag v1; echo two > f; git commit -qam 2; git checkout -qb other; echo three > f; git commit -qam 3; git checkout -q main`)
	w := newWorld(t)
	img := w.build(Request{Source: []byte("FROM scratch\nADD " + src + " /main\nADD " + src + "#v1 /v1\nADD " + src + "#other:d /sub\nADD --keep-git-dir " + src + "?ref=other /keep/\n")})
	root := w.view(img)
	for name, want := range map[string]string{"main/f": "two\n", "v1/f": "one\n", "sub/g": "x\n", "keep/f": "three\n"} {
		w.want(root, name, want)
	}
	if st, err := os.Stat(filepath.Join(root, "sub/g")); err != nil || st.Mode().Perm() != 0o755 {
		t.Error(st, err)
	}
	if _, err := os.Lstat(filepath.Join(root, "main/.git")); !errors.Is(err, os.ErrNotExist) {
		t.Error(".git was kept: ", err)
	}
	if _, err := os.Stat(filepath.Join(root, "keep/.git/HEAD")); err != nil {
		t.Error(err)
	}
	if list, _ := os.ReadDir(host); len(list) != 0 {
		t.Error("the repository wrote to the host")
	}
	for line, want := range map[string]string{
		"ADD " + src + "#nope /":              `no branch, tag or commit "nope"`,
		"ADD " + src + "#main:nodir /":        "nodir: not found in the git repository",
		"ADD --checksum=000000 " + src + " /": "want 000000",
		"ADD http://127.0.0.1:1/x.git /":      "connection refused",
	} {
		if _, err := w.try(Request{Source: []byte("FROM scratch\n" + line + "\n")}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
