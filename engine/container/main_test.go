// SPDX-License-Identifier: Apache-2.0

package container

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/engine/network"
	"github.com/knarr/knarr/engine/volume"
)

// built holds the binaries that TestMain makes once: the monitor and the program that containers run.
var built struct{ shim, payload string }

func TestMain(m *testing.M) {
	if os.Getenv(daemonEnv) != "" {
		daemonMain()
		return
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "knarr-container-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		built.shim, built.payload = filepath.Join(dir, "knarr-shim"), filepath.Join(dir, "payload")
		for out, pkg := range map[string]string{built.shim: "../../cmd/knarr-shim", built.payload: "./testdata/payload"} {
			cmd := exec.Command("go", "build", "-o", out, pkg)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if text, err := cmd.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "build %s: %v\n%s", pkg, err, text)
				return 1
			}
		}
		return m.Run()
	}())
}

// world is one instance with its own folders, names and image "payload".
type world struct {
	*Engine
	t      testing.TB
	name   string
	dir    string
	runDir string
	stop   context.CancelFunc
	done   chan struct{}
}

func needRoot(t testing.TB) {
	if os.Getuid() != 0 {
		t.Skip("needs root: namespaces, mounts and cgroups are the kernel's")
	}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	needRoot(t)
	var b [3]byte
	_, _ = rand.Read(b[:])
	w := &world{t: t, name: "kt" + hex.EncodeToString(b[:]), dir: t.TempDir()}
	run, err := os.MkdirTemp("/dev/shm", w.name) // on a tmpfs, as the real one is
	if err != nil {
		t.Fatal(err)
	}
	w.runDir = run
	t.Cleanup(func() { os.RemoveAll(run) })
	w.open()
	t.Cleanup(w.cleanup)
	w.image("payload", image.ContainerConfig{})
	return w
}

// config makes what an engine needs in dir; the caller closes all.
func openParts(name, dir, run, shim string, log *slog.Logger) (*Engine, error) {
	images, err := image.Open(image.Config{Dir: filepath.Join(dir, "images"), Log: log})
	if err != nil {
		return nil, err
	}
	networks, err := network.Open(network.Config{Name: name, Dir: filepath.Join(dir, "networks"), RunDir: filepath.Join(run, "network"), Log: log})
	if err != nil {
		return nil, err
	}
	volumes, err := volume.Open(volume.Config{Dir: filepath.Join(dir, "volumes"), Log: log})
	if err != nil {
		return nil, err
	}
	return Open(Config{Name: name, Dir: filepath.Join(dir, "engine"), RunDir: run, ShimBinary: shim,
		Images: images, Networks: networks, Volumes: volumes, Log: log})
}

func (w *world) open() {
	w.t.Helper()
	log := slog.New(slog.NewTextHandler(logTo{w.t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	e, err := openParts(w.name, w.dir, w.runDir, built.shim, log)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Engine = e
	ctx, cancel := context.WithCancel(context.Background())
	w.stop, w.done = cancel, make(chan struct{})
	go func() { defer close(w.done); _ = e.Run(ctx) }()
}

type logTo struct{ t testing.TB }

func (l logTo) Write(p []byte) (int, error) { l.t.Log(string(bytes.TrimSpace(p))); return len(p), nil }

// close ends the daemon's side; containers stay.
func (w *world) close() {
	w.t.Helper()
	w.stop()
	<-w.done
	for _, c := range []func() error{w.Engine.Close, w.cfg.Networks.Close, w.cfg.Images.Close} {
		if err := c(); err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) cleanup() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.StopAll(ctx); err != nil {
		w.t.Error("stop all:", err)
	}
	for _, p := range w.Check(ctx) {
		w.t.Error("left over:", p)
	}
	if err := w.cfg.Networks.Teardown(); err != nil {
		w.t.Error(err)
	}
	w.close()
	w.mustBeClean()
}

// mustBeClean looks at the machine itself, not at what the engine thinks of it.
func (w *world) mustBeClean() {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	if bytes.Contains(mounts, []byte(w.dir)) || bytes.Contains(mounts, []byte(w.runDir)) {
		w.t.Error("mounts are left below", w.dir, w.runDir)
	}
	for _, root := range w.groupRoots() {
		if exists(filepath.Join(root, w.name)) {
			w.t.Error("cgroup left:", filepath.Join(root, w.name))
		}
	}
}

// image loads an image of the payload binary at /payload with further files.
func (w *world) image(name string, config image.ContainerConfig, files ...tarFile) {
	w.t.Helper()
	program, err := os.ReadFile(built.payload)
	if err != nil {
		w.t.Fatal(err)
	}
	if config.Entrypoint == nil {
		config.Entrypoint = []string{"/payload"}
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, f := range append([]tarFile{{name: "payload", body: string(program), mode: 0o755}}, files...) {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.body)), Typeflag: f.kind, Linkname: f.link, Uid: f.uid, Gid: f.uid}
		if f.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := tw.WriteHeader(h); err != nil {
			w.t.Fatal(err)
		}
		if _, err := tw.Write([]byte(f.body)); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.cfg.Images.Import(context.Background(), &buf, image.ImportOptions{Name: name, Config: config}); err != nil {
		w.t.Fatal(err)
	}
}

type tarFile struct {
	name, body, link string
	mode             int64
	kind             byte
	uid              int
}

func dirEntry(name string) tarFile { return tarFile{name: name + "/", kind: tar.TypeDir, mode: 0o755} }

func (w *world) create(s Spec) Container {
	w.t.Helper()
	if s.Image == "" {
		s.Image = "payload"
	}
	c, err := w.Create(context.Background(), s)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) start(s Spec) Container {
	w.t.Helper()
	c := w.create(s)
	if err := w.Start(w.ctx(), c.ID); err != nil {
		w.t.Fatal(err)
	}
	c, err := w.Get(c.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	w.t.Cleanup(cancel)
	return ctx
}

func (w *world) wait(ref string) Exit {
	w.t.Helper()
	x, err := w.Wait(w.ctx(), ref, NotRunning)
	if err != nil {
		w.t.Fatal(err)
	}
	return x
}

func (w *world) logs(ref string, o LogOptions) string {
	w.t.Helper()
	var out []byte
	if !o.Stdout && !o.Stderr {
		o.Stdout, o.Stderr = true, true
	}
	if o.Tail == 0 {
		o.Tail = -1
	}
	for l, err := range w.Logs(w.ctx(), ref, o) {
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, l.Data...)
	}
	return string(out)
}

// run creates, starts and waits, and answers exit code and output.
func (w *world) run(s Spec) (int, string) {
	w.t.Helper()
	c := w.start(s)
	x := w.wait(c.ID)
	return x.Code, w.logs(c.ID, LogOptions{})
}

func alive(pid int) bool { return unix.Kill(pid, 0) == nil }

func sorted(s []string) []string { slices.Sort(s); return s }

func ociVolumes(paths ...string) ocispec.ImageConfig {
	c := ocispec.ImageConfig{Volumes: map[string]struct{}{}}
	for _, p := range paths {
		c.Volumes[p] = struct{}{}
	}
	return c
}
