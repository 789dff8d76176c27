// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	pb "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/engine/network"
	"github.com/knarr/knarr/engine/volume"
)

// built is set by the first test that wants programs, and removed at the end.
var built struct {
	sync.Once
	dir string
	err error
}

func programs() (string, error) {
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "knarr-cri-test-"); built.err != nil {
			return
		}
		for out, pkg := range map[string]string{"knarr-shim": "../../cmd/knarr-shim", "payload": "../container/testdata/payload"} {
			cmd := exec.Command("go", "build", "-o", filepath.Join(built.dir, out), pkg)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if text, err := cmd.CombinedOutput(); err != nil {
				built.err = errors.New(string(text))
			}
		}
	})
	return built.dir, built.err
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// world is a real engine with the interface on a socket, and a client of it.
type world struct {
	pb.RuntimeServiceClient
	pb.ImageServiceClient
	t    *testing.T
	logs string
	eng  *container.Engine
}

type testNetworks struct{ *network.Networks }

func (testNetworks) PodNetwork() string                             { return container.DefaultNetwork }
func (testNetworks) SetPodCIDR(context.Context, netip.Prefix) error { return nil }

func newWorld(t *testing.T) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("a real engine is not part of the fast checks")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: namespaces, mounts and cgroups are the kernel's")
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	bin, err := programs()
	must(err)
	var b [3]byte
	rand.Read(b[:])
	name := "kc" + hex.EncodeToString(b[:])
	dir := t.TempDir()
	run, err := os.MkdirTemp("/dev/shm", name)
	must(err)
	t.Cleanup(func() { os.RemoveAll(run) })
	log := slog.New(slog.NewTextHandler(logTo{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	images, err := image.Open(image.Config{Dir: filepath.Join(dir, "images"), Log: log})
	must(err)
	networks, err := network.Open(network.Config{Name: name, Dir: filepath.Join(dir, "networks"), RunDir: filepath.Join(run, "network"), Log: log})
	must(err)
	must(networks.EnsureDefaults(t.Context()))
	volumes, err := volume.Open(volume.Config{Dir: filepath.Join(dir, "volumes"), Log: log})
	must(err)
	eng, err := container.Open(container.Config{Name: name, Dir: filepath.Join(dir, "containers"), RunDir: run,
		ShimBinary: filepath.Join(bin, "knarr-shim"), Images: images, Networks: networks, Volumes: volumes, Log: log})
	must(err)
	sock, err := net.Listen("unix", filepath.Join(run, "cri.sock"))
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	server := New(Config{Containers: eng, Images: images, Networks: testNetworks{networks}, Version: "test", Log: log})
	work.Go(func() { networks.Run(ctx) })
	work.Go(func() { eng.Run(ctx) })
	work.Go(func() {
		if err := server.Run(ctx, sock); err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient("unix://"+sock.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	must(err)
	t.Cleanup(func() {
		conn.Close()
		end, stop := context.WithTimeout(context.Background(), time.Minute)
		defer stop()
		for _, err := range []error{eng.StopAll(end), networks.Teardown()} {
			if err != nil {
				t.Error(err)
			}
		}
		cancel()
		work.Wait()
		for _, err := range []error{eng.Close(), networks.Close(), images.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	program, err := os.ReadFile(filepath.Join(bin, "payload"))
	must(err)
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	for name, body := range map[string]string{"payload": string(program), "etc/passwd": "root:x:0:0::/:/\nweb:x:500:600::/:/\n", "etc/group": "web:x:600:\nextra:x:700:web\n"} {
		must(tw.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(body)), Typeflag: tar.TypeReg}))
		_, err := tw.Write([]byte(body))
		must(err)
	}
	must(tw.Close())
	_, err = images.Import(t.Context(), &layer, image.ImportOptions{Name: "payload", Config: image.ContainerConfig{ImageConfig: imageConfig()}})
	must(err)
	return &world{RuntimeServiceClient: pb.NewRuntimeServiceClient(conn), ImageServiceClient: pb.NewImageServiceClient(conn), t: t, logs: t.TempDir(), eng: eng}
}

type logTo struct{ t *testing.T }

func (l logTo) Write(p []byte) (int, error) { l.t.Log(string(bytes.TrimSpace(p))); return len(p), nil }

// pod is a config like a kubelet's.
func (w *world) pod(name string) *pb.PodSandboxConfig {
	return &pb.PodSandboxConfig{
		Metadata: &pb.PodSandboxMetadata{Name: name, Namespace: "ns", Uid: "uid-" + name}, Hostname: name, LogDirectory: filepath.Join(w.logs, name),
		Labels: map[string]string{"app": name}, Annotations: map[string]string{"a": "b"},
		Linux: &pb.LinuxPodSandboxConfig{SecurityContext: &pb.LinuxSandboxSecurityContext{NamespaceOptions: &pb.NamespaceOption{Pid: pb.NamespaceMode_CONTAINER}}},
	}
}

func (w *world) box(name string, args ...string) *pb.ContainerConfig {
	return &pb.ContainerConfig{
		Metadata: &pb.ContainerMetadata{Name: name}, Image: &pb.ImageSpec{Image: "payload"}, Args: args, LogPath: name + "/0.log",
		Labels: map[string]string{"c": name}, Annotations: map[string]string{"x": "y"},
		Linux: &pb.LinuxContainerConfig{SecurityContext: &pb.LinuxContainerSecurityContext{NamespaceOptions: &pb.NamespaceOption{Pid: pb.NamespaceMode_CONTAINER}}},
	}
}

func (w *world) runPod(c *pb.PodSandboxConfig) string {
	w.t.Helper()
	out, err := w.RunPodSandbox(w.t.Context(), &pb.RunPodSandboxRequest{Config: c})
	if err != nil {
		w.t.Fatal(err)
	}
	return out.PodSandboxId
}

func (w *world) start(pod string, c *pb.ContainerConfig) string {
	w.t.Helper()
	out, err := w.CreateContainer(w.t.Context(), &pb.CreateContainerRequest{PodSandboxId: pod, Config: c})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.StartContainer(w.t.Context(), &pb.StartContainerRequest{ContainerId: out.ContainerId}); err != nil {
		w.t.Fatal(err)
	}
	return out.ContainerId
}

// exec runs the payload in a container and answers what it wrote.
func (w *world) exec(id string, args ...string) string {
	w.t.Helper()
	out, err := w.ExecSync(w.t.Context(), &pb.ExecSyncRequest{ContainerId: id, Cmd: append([]string{"/payload"}, args...), Timeout: 20})
	if err != nil || out.ExitCode != 0 {
		w.t.Fatalf("%q: %v %+v", args, err, out)
	}
	return string(out.Stdout)
}

func (w *world) status(id string) *pb.ContainerStatus {
	w.t.Helper()
	out, err := w.ContainerStatus(w.t.Context(), &pb.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		w.t.Fatal(err)
	}
	return out.Status
}

func (w *world) fails(want codes.Code, err error) {
	w.t.Helper()
	if status.Code(err) != want {
		w.t.Errorf("got %v (%s), want code %s", err, status.Code(err), want)
	}
}
