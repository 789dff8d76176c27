// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/internal/errs"
)

// chrootRunner executes for real: this test binary starts again in its own mount namespace, gives the root file system a
// /proc and a /dev, changes root and becomes the command.
type chrootRunner struct {
	mu   sync.Mutex
	runs int
	last RunStep
}

const (
	insideEnv = "KNARR_TEST_ROOTFS"
	mountsEnv = "KNARR_TEST_MOUNTS"
)

func TestMain(m *testing.M) {
	if root := os.Getenv(insideEnv); root != "" {
		fmt.Fprintln(os.Stderr, "test runner:", inside(root, os.Args[1], os.Args[2:]))
		os.Exit(125)
	}
	os.Exit(m.Run())
}

func inside(root, dir string, args []string) error {
	var mounts []StepMount
	err := json.Unmarshal([]byte(os.Getenv(mountsEnv)), &mounts)
	os.Unsetenv(insideEnv)
	os.Unsetenv(mountsEnv)
	err = errors.Join(err, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	for _, m := range mounts {
		if m.Source == "" {
			err = errors.Join(err, unix.Mount("tmpfs", root+m.Target, "tmpfs", 0, ""))
			continue
		}
		err = errors.Join(err, unix.Mount(m.Source, root+m.Target, "", unix.MS_BIND, ""))
		if m.ReadOnly {
			err = errors.Join(err, unix.Mount("", root+m.Target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		}
	}
	if err := errors.Join(err,
		unix.Mount("proc", root+"/proc", "proc", 0, ""),
		unix.Mount("tmpfs", root+"/dev", "tmpfs", 0, ""),
		os.Symlink("/proc/self/fd/0", root+"/dev/stdin"),
		unix.Chroot(root), unix.Chdir(dir)); err != nil {
		return err
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return unix.Exec(path, args, os.Environ())
}

func (c *chrootRunner) Run(ctx context.Context, s RunStep) (int, error) {
	c.mu.Lock()
	c.runs++
	c.last = s
	c.mu.Unlock()
	mounts, err := json.Marshal(s.Mounts)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{s.Dir}, s.Args...)...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = append(slices.Clone(s.Env), insideEnv+"="+s.Rootfs, mountsEnv+"="+string(mounts)), s.Stdin, s.Stdout, s.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// world is a store and a builder of one test.
type world struct {
	t      *testing.T
	images *image.Store
	b      *Builder
	run    *chrootRunner
	out    bytes.Buffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts overlayfs")
	}
	s, err := image.Open(image.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w := &world{t: t, images: s, run: &chrootRunner{}}
	w.b = New(Config{Dir: t.TempDir(), Images: s, Run: w.run})
	t.Cleanup(func() {
		if err := w.b.Recover(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// context writes files; a name ending in / is a directory, a body "-> x" a link.
func (w *world) context(files map[string]string) string {
	w.t.Helper()
	dir := w.t.TempDir()
	for name, body := range files {
		full := filepath.Join(dir, name)
		dir := filepath.Dir(full)
		if strings.HasSuffix(name, "/") {
			dir = full
		}
		err := os.MkdirAll(dir, 0o755)
		if target, ok := strings.CutPrefix(body, "-> "); ok && err == nil {
			err = os.Symlink(target, full)
		} else if err == nil && !strings.HasSuffix(name, "/") {
			err = os.WriteFile(full, []byte(body), 0o644)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return dir
}

func (w *world) try(r Request) (image.Image, error) {
	w.t.Helper()
	w.out.Reset()
	r.Progress = &w.out
	img, err := w.b.Build(w.t.Context(), r)
	if snaps := w.images.Snapshots(); len(snaps) != 0 {
		w.t.Errorf("snapshots left: %v", snaps)
	}
	if left, _ := os.ReadDir(filepath.Join(w.b.cfg.Dir, workDir)); len(left) != 0 {
		w.t.Errorf("work folders left: %v", left)
	}
	return img, err
}

func (w *world) build(r Request) image.Image {
	w.t.Helper()
	img, err := w.try(r)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, w.out.String())
	}
	return img
}

// simple builds a Dockerfile over files.
func (w *world) simple(dockerfile string, files map[string]string) image.Image {
	w.t.Helper()
	return w.build(Request{ContextDir: w.context(files), Source: []byte(dockerfile)})
}

// view mounts an image read-only for the time of the test.
func (w *world) view(img image.Image) string {
	w.t.Helper()
	dir := w.t.TempDir()
	if err := w.images.MountReadOnly(img, dir); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.images.Unmount(dir) })
	return dir
}

func (w *world) want(root, name, content string) {
	w.t.Helper()
	got, err := os.ReadFile(filepath.Join(root, name))
	if err != nil || string(got) != content {
		w.t.Errorf("%s: %q, %v; want %q", name, got, err, content)
	}
}

// busybox makes the base image "busybox" of Debian's static busybox.
func (w *world) busybox() {
	w.t.Helper()
	bin, err := os.ReadFile("/bin/busybox")
	if err != nil {
		w.t.Skip("needs busybox-static: ", err)
	}
	dir := w.context(map[string]string{"busybox": string(bin)})
	img := w.build(Request{ContextDir: dir, Source: []byte("FROM scratch\nCOPY --chmod=755 busybox /bin/busybox\nENV PATH=/bin\nRUN [\"/bin/busybox\",\"--install\",\"/bin\"]\nCMD [\"sh\"]\n"), Tags: []string{"busybox"}})
	if img.Cache || len(img.Layers) != 2 {
		w.t.Fatalf("%+v", img)
	}
}

func TestScratchCopyAndCache(t *testing.T) {
	w := newWorld(t)
	dir := w.context(map[string]string{"Dockerfile": "FROM scratch\nCOPY hello /bin/hello\nENV A=b\nCMD [\"/bin/hello\"]\n", "hello": "hi"})
	first := w.build(Request{ContextDir: dir, Tags: []string{"web:v1"}})
	w.want(w.view(first), "bin/hello", "hi")
	if !strings.Contains(w.out.String(), "Step 2/4 : COPY hello /bin/hello\n") || !strings.Contains(w.out.String(), "Successfully tagged web:v1\n") {
		t.Errorf("output:\n%s", w.out.String())
	}
	if got := first.Config.Config; !slices.Equal(got.Cmd, []string{"/bin/hello"}) || !slices.Equal(got.Env, []string{"A=b"}) {
		t.Errorf("%+v", got)
	}
	if h := first.Config.History; len(h) != 3 || h[0].EmptyLayer || !h[2].EmptyLayer {
		t.Errorf("history %+v", h)
	}
	again := w.build(Request{ContextDir: dir, Tags: []string{"web:v1"}})
	if again.ID != first.ID || strings.Count(w.out.String(), "Using cache") != 3 {
		t.Errorf("second build: %s, want %s\n%s", again.ID, first.ID, w.out.String())
	}
	fresh := w.build(Request{ContextDir: dir, NoCache: true})
	if fresh.ID == first.ID || strings.Contains(w.out.String(), "Using cache") {
		t.Errorf("no-cache build: %s %v; first %s %v", fresh.ID, fresh.Layers, first.ID, first.Layers)
	}
	os.WriteFile(filepath.Join(dir, "hello"), []byte("ho"), 0o644)
	w.want(w.view(w.build(Request{ContextDir: dir})), "bin/hello", "ho")
	os.Chmod(filepath.Join(dir, "hello"), 0o755)
	if w.build(Request{ContextDir: dir}); strings.Contains(w.out.String(), "Using cache") {
		t.Error("a changed mode was not seen")
	}
}

func TestRun(t *testing.T) {
	w := newWorld(t)
	w.busybox()
	img := w.simple(`FROM busybox
ARG who=world
ENV GREETING="hello $who"
WORKDIR /work/dir
RUN echo "$GREETING" > f && pwd >> f
RUN ["touch", "exec-form"]
RUN <<EOF
echo here > doc
echo $who >> doc
EOF
RUN cat <<A >mixed
one
A
RUN <<EOF
#!/bin/sh -e
echo script > shebang
EOF
COPY <<name /etc/conf
who=$who
name
RUN rm exec-form
`, nil)
	root := w.view(img)
	w.want(root, "work/dir/f", "hello world\n/work/dir\n")
	w.want(root, "work/dir/doc", "here\nworld\n")
	w.want(root, "work/dir/mixed", "one\n")
	w.want(root, "work/dir/shebang", "script\n")
	w.want(root, "etc/conf", "who=world\n")
	if _, err := os.Lstat(filepath.Join(root, "work/dir/exec-form")); !errors.Is(err, os.ErrNotExist) {
		t.Error("removed file is there")
	}
	_, err := w.try(Request{Source: []byte("FROM busybox\nRUN exit 3\n"), Tags: []string{"never"}})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 3 || !strings.Contains(err.Error(), "Dockerfile:2: ") || !errors.Is(err, errs.Invalid) {
		t.Errorf("%v", err)
	}
	if _, err := w.images.Get("never"); !errors.Is(err, errs.NotFound) {
		t.Error("a failed build gave a name")
	}
}
