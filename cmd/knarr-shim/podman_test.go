// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// podman is Debian's, with a state of its own and our runtime.
type podman struct {
	t   *testing.T
	dir string
	bin string
}

func (p podman) try(args ...string) (string, error) {
	cmd := exec.Command("podman", append([]string{"--root", p.dir + "/root", "--runroot", p.dir + "/run", "--tmpdir", p.dir + "/tmp", "--storage-driver", "vfs",
		"--cgroup-manager", "cgroupfs", "--events-backend", "file", "--log-level", "error", "--runtime", p.bin}, args...)...)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (p podman) do(want string, args ...string) {
	p.t.Helper()
	out, err := p.try(args...)
	if err != nil || !strings.Contains(out, want) {
		p.t.Errorf("podman %v: %v: %s; want %q in it", args, err, out, want)
	}
}

// The runtime takes runc's place below podman: its verbs and their errors.
func TestPodman(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, program := range []string{"podman", "conmon", "busybox"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed (apt-get install podman busybox-static)", program)
		}
	}
	p := podman{t, t.TempDir(), build(t)}
	name := "knarr" + strconv.Itoa(os.Getpid())
	p.image(filepath.Join(p.dir, "image.tar"))
	t.Cleanup(func() { _, _ = p.try("rm", "-f", "-t", "0", name) })

	p.do("", "import", "-q", filepath.Join(p.dir, "image.tar"), "test:1")
	p.do("hello", "run", "--rm", "--network", "none", "test:1", "/busybox", "echo", "hello")
	p.do("100000", "run", "--rm", "--network", "none", "--uidmap", "0:100000:65536", "test:1", "/busybox", "cat", "/proc/self/uid_map")
	if out, err := p.try("run", "--rm", "--network", "none", "test:1", "nosuch"); err == nil || err.(*exec.ExitError).ExitCode() != 127 || !strings.Contains(out, "not found") {
		t.Errorf("a program that is not there: %v: %s", err, out)
	}
	p.do("", "run", "-d", "--name", name, "--network", "none", "--memory", "64m", "--pids-limit", "50", "test:1", "/busybox", "sleep", "100")
	p.do("uid=7", "exec", "--user", "7", name, "/busybox", "id")
	p.do("67.11MB", "stats", "--no-stream", name)
	p.do("", "pause", name)
	p.do("Paused", "ps", "-a", "--format", "{{.Status}}")
	p.do("", "unpause", name)
	p.do("sleep 100", "top", name)
	p.do("", "stop", "-t", "0", name)
	p.do("Exited (137)", "ps", "-a", "--format", "{{.Status}}")
	p.do("", "rm", name)
}

// image writes a file system of busybox alone.
func (p podman) image(file string) {
	p.t.Helper()
	path, err := exec.LookPath("busybox")
	must(p.t, err)
	data, err := os.ReadFile(path)
	must(p.t, err)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(p.t, w.WriteHeader(&tar.Header{Name: "busybox", Mode: 0o755, Size: int64(len(data)), Typeflag: tar.TypeReg}))
	_, err = w.Write(data)
	must(p.t, err)
	must(p.t, w.Close())
	must(p.t, os.WriteFile(file, b.Bytes(), 0o600))
}

func TestUpdateAmounts(t *testing.T) {
	for text, want := range map[string]int64{"64M": 64 << 20, "1gb": 1 << 30, "2KiB": 2048, "-1": -1, "7": 7, "9999999999g": 0, "x": 0, "-5": 0} {
		n, err := parseAmount(text, true)
		if (err != nil) != (want == 0) || err == nil && n != want {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
}

// What containerd and podman parse of `features`.
func TestFeatures(t *testing.T) {
	out, err := exec.Command(build(t), "features").Output()
	must(t, err)
	var f struct {
		MountOptions []string
		Linux        struct {
			Namespaces []string
			Cgroup     struct{ V1, V2 bool }
			Seccomp    struct{ Archs []string }
		}
	}
	must(t, json.Unmarshal(out, &f))
	if len(f.MountOptions) < 40 || len(f.Linux.Namespaces) != 8 || !f.Linux.Cgroup.V2 || len(f.Linux.Seccomp.Archs) != 2 {
		t.Errorf("%s", out)
	}
}

// What cannot be done is refused with the reason, also with all the options that runc has for it.
func TestCheckpointIsRefused(t *testing.T) {
	for _, args := range [][]string{{"checkpoint", "--image-path", "/x", "--leave-running", "id"}, {"restore", "--bundle", "/x", "id"}} {
		out, err := exec.Command(build(t), args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "not supported") {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
}
