// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	dbuild "github.com/moby/moby/api/types/build"
	dcontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/knarr/knarr/engine/build"
	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/engine/network"
	"github.com/knarr/knarr/engine/volume"
)

// programs are built once, by the first test that wants them.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "knarr-dockerapi-test-")
	if err != nil {
		return "", err
	}
	for out, pkg := range map[string]string{"knarr-shim": "../../cmd/knarr-shim", "payload": "../container/testdata/payload"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, out), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			return dir, errors.New(string(text))
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := builtAlready(); dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// builtAlready avoids building for a run that wanted no programs.
func builtAlready() (string, error) {
	if !wantedPrograms {
		return "", nil
	}
	return programs()
}

var wantedPrograms bool

// daemon is a real engine with its API on a socket, in folders and under a name of its own.
type daemon struct {
	*client.Client
	t      *testing.T
	name   string
	sock   string
	bin    string
	server *Server
}

func startDaemon(t *testing.T) *daemon {
	t.Helper()
	if testing.Short() {
		t.Skip("a real engine is not part of the fast checks")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: namespaces, mounts and cgroups are the kernel's")
	}
	wantedPrograms = true
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	var b [3]byte
	rand.Read(b[:])
	d := &daemon{t: t, name: "kd" + hex.EncodeToString(b[:]), bin: bin}
	dir := t.TempDir()
	run, err := os.MkdirTemp("/dev/shm", d.name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	d.sock = filepath.Join(run, "engine.sock")
	log := slog.New(slog.NewTextHandler(logTo{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	images, err := image.Open(image.Config{Dir: filepath.Join(dir, "images"), Log: log})
	must(err)
	networks, err := network.Open(network.Config{Name: d.name, Dir: filepath.Join(dir, "networks"), RunDir: filepath.Join(run, "network"), Log: log})
	must(err)
	must(networks.EnsureDefaults(t.Context()))
	volumes, err := volume.Open(volume.Config{Dir: filepath.Join(dir, "volumes"), Log: log})
	must(err)
	containers, err := container.Open(container.Config{Name: d.name, Dir: filepath.Join(dir, "containers"), RunDir: run,
		ShimBinary: filepath.Join(bin, "knarr-shim"), Images: images, Networks: networks, Volumes: volumes, Log: log})
	must(err)
	must(os.MkdirAll(filepath.Join(dir, "build"), 0o700))
	builder := build.New(build.Config{Dir: filepath.Join(dir, "build"), Images: images, Run: containers.BuildRunner(), Log: log})
	must(builder.Recover())
	d.server = New(Config{Containers: containers, Images: images, Networks: networks, Volumes: volumes, Builder: builder, Name: d.name, DataDir: dir}, log)
	l, err := net.Listen("unix", d.sock)
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	srv := &http.Server{Handler: d.server, BaseContext: func(net.Listener) context.Context { return ctx }}
	work.Go(func() { networks.Run(ctx) })
	work.Go(func() { containers.Run(ctx) })
	work.Go(func() { srv.Serve(l) })
	d.Client, err = client.New(client.WithHost("unix://" + d.sock))
	must(err)
	t.Cleanup(func() {
		d.Client.Close()
		srv.Close()
		end, stop := context.WithTimeout(context.Background(), time.Minute)
		defer stop()
		for _, err := range []error{containers.StopAll(end), networks.Teardown()} {
			if err != nil {
				t.Error(err)
			}
		}
		cancel()
		work.Wait()
		for _, err := range []error{containers.Close(), networks.Close(), images.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	d.build("payload", "FROM scratch\nCOPY payload /payload\nENTRYPOINT [\"/payload\"]\n")
	return d
}

type logTo struct{ t *testing.T }

func (l logTo) Write(p []byte) (int, error) { l.t.Log(string(bytes.TrimSpace(p))); return len(p), nil }

// build sends a context with the payload and a Dockerfile, and answers the builder's words.
func (d *daemon) build(tag, dockerfile string) (text string) {
	d.t.Helper()
	program, err := os.ReadFile(filepath.Join(d.bin, "payload"))
	if err != nil {
		d.t.Fatal(err)
	}
	var ctx bytes.Buffer
	w := tar.NewWriter(&ctx)
	for name, data := range map[string][]byte{"Dockerfile": []byte(dockerfile), "payload": program} {
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data))})
		w.Write(data)
	}
	w.Close()
	res, err := d.ImageBuild(d.t.Context(), &ctx, client.ImageBuildOptions{Tags: []string{tag}, Version: dbuild.BuilderV1})
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	for dec := json.NewDecoder(res.Body); ; {
		var m struct{ Stream, Error string }
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return text
		} else if err != nil {
			d.t.Fatal(err)
		}
		if m.Error != "" {
			return text + m.Error
		}
		text += m.Stream
	}
}

// create makes a container of the payload without a network.
func (d *daemon) create(cfg dcontainer.Config, h *dcontainer.HostConfig) string {
	d.t.Helper()
	cfg.Image = "payload"
	if h == nil {
		h = &dcontainer.HostConfig{NetworkMode: "none"}
	}
	c, err := d.ContainerCreate(d.t.Context(), client.ContainerCreateOptions{Config: &cfg, HostConfig: h})
	if err != nil {
		d.t.Fatal(err)
	}
	return c.ID
}

func (d *daemon) start(id string) {
	d.t.Helper()
	if _, err := d.ContainerStart(d.t.Context(), id, client.ContainerStartOptions{}); err != nil {
		d.t.Fatal(err)
	}
}
