// SPDX-License-Identifier: Apache-2.0

package test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// composeProgram finds docker compose: $KNARR_COMPOSE is its program, or "build" to build the one that test/compose pins,
// which takes minutes the first time. Without it the test is skipped.
func composeProgram(t *testing.T) string {
	t.Helper()
	program := os.Getenv("KNARR_COMPOSE")
	switch program {
	case "":
		t.Skip("set KNARR_COMPOSE to the docker-compose program, or run make test-compose, which builds it")
	case "build":
		program = filepath.Join(t.TempDir(), "docker-compose")
		cmd := exec.Command("go", "build", "-o", program, "github.com/docker/compose/v2/cmd")
		cmd.Dir = "compose"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build docker compose: %v\n%s", err, out)
		}
	}
	return program
}

// TestCompose runs examples/compose with the real docker compose.
func TestCompose(t *testing.T) {
	needRoot(t)
	program := composeProgram(t)
	i := newInstance(t, buildBinaries(t))
	i.up(t)
	web := i.buildWeb(t)
	port := freePort(t)
	i.env = append(i.env, "PORT="+strconv.Itoa(port))
	compose := func(args ...string) string {
		return i.must(t, program, append([]string{"-f", "../examples/compose/compose.yaml"}, args...)...)
	}
	t.Cleanup(func() { i.command(program, "-f", "../examples/compose/compose.yaml", "down", "-v", "-t", "0").Run() })
	want := func(what, got, text string) {
		t.Helper()
		if !strings.Contains(got, text) {
			t.Errorf("%s: %q has no %q", what, got, text)
		}
	}
	compose("up", "-d")
	want("ps", compose("ps", "--format", "{{.Service}} {{.State}} {{.Health}}"), "store running healthy")
	want("ps -a", compose("ps", "-a", "--format", "{{.Service}} {{.State}} {{.ExitCode}}"), "pages exited 0")
	want("exec", compose("exec", "-T", "front", "/web", "get", "http://store/"), "a page from the volume")
	want("published", i.must(t, filepath.Join(web, "web"), "get", "-wait", "5s", "http://127.0.0.1:"+strconv.Itoa(port)+"/healthz"), "ok")
	want("logs", compose("logs", "--no-color", "store"), "serving /pages")
	want("port", compose("port", "front", "80"), strconv.Itoa(port))
	before := compose("ps", "-q")
	compose("up", "-d")
	if after := compose("ps", "-q"); after != before {
		t.Errorf("a second up made new containers: %s, was %s", after, before)
	}
	compose("restart", "-t", "1", "store")
	compose("down", "-v", "-t", "1")
	if left := i.must(t, "knarr", "ps", "-aq", "--filter", "label=com.docker.compose.project=store"); left != "" {
		t.Errorf("containers are left: %s", left)
	}
	if left := i.must(t, "knarr", "volume", "ls", "-q"); strings.Contains(left, "store_pages") {
		t.Errorf("volumes are left: %s", left)
	}
}

// buildWeb builds the image "web" of examples/web, and answers its folder.
func (i *instance) buildWeb(t *testing.T) string {
	t.Helper()
	web := filepath.Join(i.data, "web")
	if err := os.CopyFS(web, os.DirFS("../examples/web")); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(web, "web"), "../examples/web")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the example: %v\n%s", err, out)
	}
	i.must(t, "knarr", "build", "-q", "-t", "web", web)
	return web
}

// TestTestcontainers runs the program test/testcontainers, which uses testcontainers-go as a test suite does.
func TestTestcontainers(t *testing.T) {
	needRoot(t)
	if os.Getenv("KNARR_TESTCONTAINERS") == "" {
		t.Skip("set KNARR_TESTCONTAINERS=1, or run make test-compose: it builds a module of its own")
	}
	program := filepath.Join(t.TempDir(), "testcontainers")
	cmd := exec.Command("go", "build", "-o", program, ".")
	cmd.Dir = "testcontainers"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	i := newInstance(t, buildBinaries(t))
	i.up(t)
	web := i.buildWeb(t)
	i.env = append(i.env, "TESTCONTAINERS_RYUK_DISABLED=true")
	if out := i.must(t, program, web); !strings.HasSuffix(out, "built\n") {
		t.Errorf("it ended early: %s", out)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
