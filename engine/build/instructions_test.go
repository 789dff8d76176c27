// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
)

func TestConfigInstructions(t *testing.T) {
	w := newWorld(t)
	img := w.simple(`FROM scratch
MAINTAINER somebody
ARG v=1
ENV A=$v B="two words" C=${A:-none}
ENV A=3
LABEL x=y "long key"="z $A"
EXPOSE 80 $A/udp 8000-8001
VOLUME /data rel
WORKDIR /a
WORKDIR b
USER 1000:1000
SHELL ["/bin/ash", "-ec"]
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --retries=2 CMD curl -f localhost
CMD first
ENTRYPOINT ["/srv"]
ONBUILD RUN echo $A
`, nil)
	c := img.Config.Config
	for name, pair := range map[string][2]any{
		"env":        {c.Env, []string{"A=3", "B=two words", "C=none"}},
		"labels":     {c.Labels, map[string]string{"x": "y", "long key": "z 3"}},
		"ports":      {c.ExposedPorts, map[string]struct{}{"80/tcp": {}, "3/udp": {}, "8000/tcp": {}, "8001/tcp": {}}},
		"volumes":    {c.Volumes, map[string]struct{}{"/data": {}, "/rel": {}}},
		"dir":        {c.WorkingDir, "/a/b"},
		"user":       {c.User, "1000:1000"},
		"shell":      {c.Shell, []string{"/bin/ash", "-ec"}},
		"stopsignal": {c.StopSignal, "SIGINT"},
		"health":     {c.Healthcheck.Test, []string{"CMD-SHELL", "curl -f localhost"}},
		"interval":   {c.Healthcheck.Interval, 5 * time.Second},
		"cmd":        {c.Cmd, []string{"/bin/ash", "-ec", "first"}},
		"entrypoint": {c.Entrypoint, []string{"/srv"}},
		"onbuild":    {c.OnBuild, []string{"RUN echo $A"}},
		"author":     {img.Config.Author, "somebody"},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: %#v, want %#v", name, pair[0], pair[1])
		}
	}
	if st, err := os.Stat(filepath.Join(w.view(img), "a/b")); err != nil || !st.IsDir() {
		t.Error(err)
	}
}

func TestEntrypointClearsInheritedCmd(t *testing.T) {
	w := newWorld(t)
	w.build(Request{Source: []byte("FROM scratch\nCMD [\"base\"]\n"), Tags: []string{"base"}})
	if got := w.simple("FROM base\nENTRYPOINT [\"/x\"]\n", nil); got.Config.Config.Cmd != nil {
		t.Errorf("inherited: %v", got.Config.Config.Cmd)
	}
	if got := w.simple("FROM base\nCMD [\"own\"]\nENTRYPOINT [\"/x\"]\n", nil); !slices.Equal(got.Config.Config.Cmd, []string{"own"}) {
		t.Errorf("own: %v", got.Config.Config.Cmd)
	}
}

func TestStages(t *testing.T) {
	w := newWorld(t)
	w.busybox()
	img := w.simple(`ARG flavour=sweet
FROM busybox AS build
ARG flavour
RUN mkdir -p /out/deep && echo $flavour > /out/deep/f && ln -s deep/f /out/l && echo x > /out/x
FROM build AS never
RUN exit 1
FROM scratch
COPY --from=build /out /
COPY --from=0 /out/deep/f /copy
COPY --from=busybox /bin/busybox /bin/
`, nil)
	root := w.view(img)
	w.want(root, "deep/f", "sweet\n")
	w.want(root, "copy", "sweet\n")
	if to, err := os.Readlink(filepath.Join(root, "l")); err != nil || to != "deep/f" {
		t.Error(to, err)
	}
	if st, err := os.Stat(filepath.Join(root, "bin/busybox")); err != nil || st.Mode().Perm() != 0o755 {
		t.Error(st, err)
	}
	runs := w.run.runs
	if again := w.simple("ARG flavour=sweet\nFROM busybox AS build\nARG flavour\nRUN mkdir -p /out/deep && echo $flavour > /out/deep/f && ln -s deep/f /out/l && echo x > /out/x\n", nil); w.run.runs != runs {
		t.Errorf("an unchanged RUN ran again: %s", again.ID)
	}
	w.build(Request{Source: []byte("ARG flavour=sweet\nFROM busybox AS build\nARG flavour\nRUN mkdir -p /out/deep && echo $flavour > /out/deep/f && ln -s deep/f /out/l && echo x > /out/x\n"), Args: map[string]string{"flavour": "sour", "unknown": "1"}})
	if w.run.runs != runs+1 {
		t.Error("another build argument must run it again")
	}
	if !strings.Contains(w.out.String(), "build-args [unknown] were not consumed") {
		t.Error(w.out.String())
	}
}

func TestOnbuild(t *testing.T) {
	w := newWorld(t)
	w.busybox()
	w.build(Request{Source: []byte("FROM busybox\nONBUILD COPY app /app\nONBUILD RUN cat /app > /seen\n"), Tags: []string{"onbuild"}})
	img := w.simple("FROM onbuild\n", map[string]string{"app": "mine"})
	w.want(w.view(img), "seen", "mine")
	if len(img.Config.Config.OnBuild) != 0 || !strings.Contains(w.out.String(), "# Executing 2 build triggers") {
		t.Errorf("%v\n%s", img.Config.Config.OnBuild, w.out.String())
	}
}

func TestCopyRules(t *testing.T) {
	w := newWorld(t)
	files := map[string]string{"a.txt": "a", "b.txt": "b", "c.md": "c", "dir/x": "x", "dir/sub/y": "y", "dir/link": "-> x", "top": "-> dir/x", "empty/": ""}
	img := w.simple(`FROM scratch
COPY *.txt /txt/
COPY dir /d
COPY dir/ /d2/
COPY a.txt /renamed
COPY a.txt /into/
COPY top /followed
COPY --chown=7:8 --chmod=0600 c.md /owned/c
WORKDIR /w
COPY b.txt .
COPY b.txt rel/b
COPY . /all
`, files)
	root := w.view(img)
	for name, body := range map[string]string{"txt/a.txt": "a", "txt/b.txt": "b", "d/x": "x", "d/sub/y": "y", "d2/sub/y": "y", "renamed": "a", "into/a.txt": "a",
		"followed": "x", "owned/c": "c", "w/b.txt": "b", "w/rel/b": "b", "all/dir/sub/y": "y"} {
		w.want(root, name, body)
	}
	if to, err := os.Readlink(filepath.Join(root, "d/link")); err != nil || to != "x" {
		t.Error(to, err)
	}
	st, err := os.Stat(filepath.Join(root, "owned/c"))
	if err != nil || st.Mode().Perm() != 0o600 || st.Sys().(*syscall.Stat_t).Uid != 7 || st.Sys().(*syscall.Stat_t).Gid != 8 {
		t.Errorf("%+v %v", st, err)
	}
	if st, err := os.Stat(filepath.Join(root, "all/empty")); err != nil || !st.IsDir() {
		t.Error("an empty directory was lost: ", err)
	}
	for line, want := range map[string]string{
		"COPY nope /":                     "Dockerfile:2: COPY failed: nope: not found in the build context",
		"COPY *.zip /":                    "*.zip: not found",
		"COPY *.txt /file":                "must be a directory and end with a /",
		"COPY --chmod=9 a.txt /":          "invalid --chmod",
		"COPY --chown=u a.txt /":          "the image has no /etc/passwd; use numbers",
		"COPY --chown=-1 a.txt /":         "the image has no",
		"COPY --chown=4294967295 a.txt /": "out of range",
		"COPY ../../etc/passwd /":         "not found",
		"USER 4294967296":                 "invalid USER",
		"USER -1":                         "invalid USER",
		"STOPSIGNAL NOPE":                 "invalid signal",
		"EXPOSE 99999":                    "EXPOSE: ",
		"VOLUME /../../etc":               "VOLUME",
		"FROM missing:v1":                 "Dockerfile:2: image missing:v1 is not here and cannot be pulled",
	} {
		_, err := w.try(Request{ContextDir: w.context(files), Source: []byte("FROM scratch\n" + line + "\n")})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestDockerignore(t *testing.T) {
	w := newWorld(t)
	files := map[string]string{".dockerignore": "*.log\nsecret\n!secret/public\nDockerfile\n", "Dockerfile": "FROM scratch\nCOPY . /\n", "a.log": "l", "keep": "k", "d/b.log": "deep", "secret/key": "s", "secret/public": "p"}
	root := w.view(w.build(Request{ContextDir: w.context(files)}))
	w.want(root, "keep", "k")
	w.want(root, "d/b.log", "deep")
	w.want(root, "secret/public", "p")
	for _, name := range []string{"a.log", "secret/key", "Dockerfile"} {
		if _, err := os.Lstat(filepath.Join(root, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was copied", name)
		}
	}
	files["Dockerfile"] = "FROM scratch\nCOPY a.log /\n"
	if _, err := w.try(Request{ContextDir: w.context(files)}); err == nil || !strings.Contains(err.Error(), "excluded by .dockerignore") {
		t.Error(err)
	}
}

func archive(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range headers {
		body := h.Uname
		h.Uname, h.Size, h.Mode = "", int64(len(body)), 0o644
		if h.Typeflag == tar.TypeSymlink {
			h.Size, body = 0, ""
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		tw.Write([]byte(body))
	}
	tw.Close()
	return buf.Bytes()
}

func TestAdd(t *testing.T) {
	w := newWorld(t)
	plain := archive(t, tar.Header{Name: "in/file", Uname: "packed", Uid: 5}, tar.Header{Name: ".wh.x", Uname: "plain name"})
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	zw.Write(plain)
	zw.Close()
	img := w.simple("FROM scratch\nADD a.tar /x/\nADD b.tgz /y\nADD plain.txt /z/\nADD --chown=9:9 a.tar /owned\nCOPY a.tar /raw.tar\n", map[string]string{"a.tar": string(plain), "b.tgz": z.String(), "plain.txt": "p"})
	root := w.view(img)
	w.want(root, "x/in/file", "packed")
	w.want(root, "x/.wh.x", "plain name")
	w.want(root, "y/in/file", "packed")
	w.want(root, "z/plain.txt", "p")
	w.want(root, "raw.tar", string(plain))
	for name, uid := range map[string]uint32{"x/in/file": 5, "owned/in/file": 9} {
		if st, err := os.Stat(filepath.Join(root, name)); err != nil || st.Sys().(*syscall.Stat_t).Uid != uid {
			t.Error(name, st, err)
		}
	}
}

// No path of a context or a base image leads out: not sources, not destinations, not WORKDIR.
func TestHostilePaths(t *testing.T) {
	w := newWorld(t)
	host := t.TempDir()
	os.WriteFile(filepath.Join(host, "secret"), []byte("host"), 0o600)
	ctx := map[string]string{"abs": "-> " + host + "/secret", "up": "-> ../../../../../../" + host, "dir/absdir": "-> " + host, "Dockerfile": "-> " + host + "/secret", "f": "f",
		"a.tar": string(archive(t, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: host}, tar.Header{Name: "l/evil", Uname: "x"}, tar.Header{Name: "../../../../.." + host + "/evil2", Uname: "x"}))}
	for _, line := range []string{"COPY abs /", "COPY up/secret /", "COPY dir/absdir/secret /", "COPY ../secret /", "COPY /abs /x"} {
		if img, err := w.try(Request{ContextDir: w.context(ctx), Source: []byte("FROM scratch\n" + line + "\n")}); err == nil {
			root := w.view(img)
			if data, _ := os.ReadFile(filepath.Join(root, "secret")); string(data) == "host" {
				t.Errorf("%s read the host", line)
			}
		}
	}
	if _, err := w.try(Request{ContextDir: w.context(ctx)}); err == nil || !strings.Contains(err.Error(), "cannot read the Dockerfile") {
		t.Errorf("Dockerfile that is a link to the host: %v", err)
	}
	base := w.build(Request{ContextDir: w.context(map[string]string{"r/out": "-> " + host, "r/up": "-> ../../../../.." + host}), Source: []byte("FROM scratch\nCOPY r /\n"), Tags: []string{"evil"}})
	_ = base
	for _, line := range []string{"COPY f /out/", "COPY f /up/f", "WORKDIR /out/w", "ADD a.tar /", "ADD a.tar /out", "COPY --chmod=777 f /out", "WORKDIR /up"} {
		_, err := w.try(Request{ContextDir: w.context(ctx), Source: []byte("FROM evil\n" + line + "\n")})
		t.Log(line, err)
	}
	list, err := os.ReadDir(host)
	if err != nil || len(list) != 1 {
		t.Errorf("the host's folder was written: %v %v", list, err)
	}
	if st, err := os.Stat(host); err != nil || st.Mode().Perm() != 0o755 && st.Mode().Perm() != 0o700 {
		t.Error(st.Mode(), err)
	}
	// The same through a context that is a tar.
	evil := archive(t, tar.Header{Name: "Dockerfile", Uname: "FROM scratch\nCOPY x/secret /\n"}, tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: host}, tar.Header{Name: "x/secret2", Uname: "evil"})
	if _, err := w.try(Request{Context: bytes.NewReader(evil)}); err == nil {
		t.Error("a context read through a link to the host")
	}
	if list, _ := os.ReadDir(host); len(list) != 1 {
		t.Errorf("the context wrote to the host: %v", list)
	}
}

func TestContextTar(t *testing.T) {
	w := newWorld(t)
	data := archive(t, tar.Header{Name: "Dockerfile", Uname: "FROM scratch\nCOPY f /\n"}, tar.Header{Name: "f", Uname: "from tar"})
	img := w.build(Request{Context: bytes.NewReader(data), Labels: map[string]string{"a": "b"}, Tags: []string{"x:1", "y:2"}})
	w.want(w.view(img), "f", "from tar")
	if img.Config.Config.Labels["a"] != "b" || strings.Join(img.Names, " ") != "x:1 y:2" || !img.Local {
		t.Errorf("%+v", img)
	}
	for name, r := range map[string]Request{"bad tag": {Tags: []string{"UPPER"}}, "no Dockerfile": {}, "broken tar": {Context: strings.NewReader(strings.Repeat("x", 2000))}} {
		if _, err := w.try(r); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Row 16: an /etc/passwd of any size costs nothing.
func TestHugePasswd(t *testing.T) {
	w := newWorld(t)
	_, err := w.try(Request{ContextDir: w.context(map[string]string{"passwd": strings.Repeat("x", maxAccounts+1), "f": ""}), Source: []byte("FROM scratch\nCOPY passwd /etc/\nCOPY --chown=me f /\n")})
	if !errors.Is(err, errs.TooLarge) {
		t.Error(err)
	}
}

func TestRecover(t *testing.T) {
	w := newWorld(t)
	img := w.simple("FROM scratch\nENV a=b\n", nil)
	e := &execution{b: w.b, work: filepath.Join(w.b.cfg.Dir, workDir, "build-dead"), id: "dead"}
	if err := os.MkdirAll(e.work, 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := e.mountPoint()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.images.MountReadOnly(img, dir); err != nil {
		t.Fatal(err)
	}
	if err := w.b.remember("stale", "sha256:"+digest.Digest(strings.Repeat("0", 64))); err != nil {
		t.Fatal(err)
	}
	if err := w.b.Recover(); err != nil {
		t.Fatal(err)
	}
	if list, _ := os.ReadDir(filepath.Join(w.b.cfg.Dir, cacheDir)); len(list) != 1 {
		t.Errorf("cache files: %v, want that of the one step whose image is here", list)
	}
	if _, err := os.Stat(e.work); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if mounts, _ := os.ReadFile("/proc/self/mountinfo"); bytes.Contains(mounts, []byte(dir)) {
		t.Error("the mount is there")
	}
}

// Builds and removals at once come to the same end as one after the other.
func TestParallelBuilds(t *testing.T) {
	w := newWorld(t)
	dir := w.context(map[string]string{"f": "same"})
	var g errgroup.Group
	for i := range 4 {
		g.Go(func() error {
			r := Request{ContextDir: dir, Source: fmt.Appendf(nil, "FROM scratch\nCOPY f /\nENV i=%d\nCOPY f /g\n", i%2), Tags: []string{fmt.Sprintf("par:%d", i)}}
			if _, err := w.b.Build(t.Context(), r); err != nil {
				return err
			}
			if _, _, err := w.images.Prune(t.Context(), image.PruneOptions{}); err != nil {
				return err
			}
			_, err := w.images.Get(r.Tags[0])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		img, err := w.images.Get(fmt.Sprintf("par:%d", i))
		if err != nil {
			t.Fatal(err)
		}
		w.want(w.view(img), "g", "same")
	}
}
