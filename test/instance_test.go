// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/nftables"
	"github.com/moby/sys/mountinfo"
)

// instance is a cluster of its own, made by the commands that people type, which can run beside any other: its name, folders,
// addresses and ports belong to it alone.
type instance struct {
	name, data, run, bin string
	env                  []string
	upArgs               []string // of the first up
	netns                string   // path of the network namespace that is its machine; "": this one
}

// needRoot skips a test of the real kernel in the fast run, and where it cannot work.
func needRoot(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("a real cluster is not part of the fast checks")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: namespaces, cgroups, links")
	}
}

// binaries builds the three programs and the payload, once for all tests, into a folder that goes with them.
var binaries = sync.OnceValues(func() (string, error) {
	bin := binDir
	cmd := exec.Command("go", "build", "-o", bin+"/", "./cmd/knarr", "./cmd/knarrd", "./cmd/knarr-shim", "./test/payload")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return bin, fmt.Errorf("build: %w\n%s", err, out)
	}
	kubectl := "#!/bin/sh\nexec " + bin + "/knarrd kubectl \"$@\"\n"
	return bin, os.WriteFile(filepath.Join(bin, "kubectl"), []byte(kubectl), 0o755)
})

// binDir is set by TestMain before any test.
var binDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "knarr-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// buildBinaries is where the programs are.
func buildBinaries(t *testing.T) string {
	t.Helper()
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// newInstance chooses names and addresses; nothing runs yet. At the end of the test everything is taken down, and what is
// left behind fails the test.
func newInstance(t *testing.T, bin string) *instance {
	t.Helper()
	run, err := os.MkdirTemp("/run", "kt")
	if err != nil {
		t.Fatal(err)
	}
	i := &instance{name: "t" + strings.ToLower(filepath.Base(run)[2:min(10, len(filepath.Base(run)))]), data: t.TempDir(), run: run, bin: bin}
	i.env = append(os.Environ(),
		"PATH="+bin+":"+os.Getenv("PATH"), "KUBECONFIG="+filepath.Join(i.data, "kubeconfig"), "KNARR_VERIFY=1",
		"DOCKER_HOST=unix://"+filepath.Join(run, "engine.sock"), "DOCKER_BUILDKIT=0", "HOME="+t.TempDir(),
		"NAME="+i.name, "DATA="+i.data, "RUN="+i.run,
	)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon's log ends:\n%s", lastLines(filepath.Join(i.data, "knarrd.log"), 40))
		}
		i.down(t)
		os.RemoveAll(run)
		i.checkNothingLeft(t)
	})
	return i
}

func lastLines(path string, n int) string {
	data, _ := os.ReadFile(path)
	lines := strings.Split(string(data), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (i *instance) flags() []string {
	return []string{"--name", i.name, "--data-dir", i.data, "--run-dir", i.run}
}

func (i *instance) up(t *testing.T) {
	t.Helper()
	pods, services := freeRanges(t)
	args := append(append([]string{"up"}, i.flags()...), "--", "--listen", "0.0.0.0:0", "--node-name", "node-"+i.name,
		"--cluster-cidr", pods.String(), "--service-cidr", services.String(), "--log-level", "debug")
	if i.upArgs == nil { // a second up of the same instance uses the addresses of the first
		i.upArgs = args
	}
	i.must(t, "knarr", i.upArgs...)
}

func (i *instance) down(t *testing.T) {
	t.Helper()
	if out, err := i.command("knarr", append([]string{"down", "--purge"}, i.flags()...)...).CombinedOutput(); err != nil {
		t.Errorf("knarr down: %v\n%s", err, out)
	}
}

func (i *instance) command(name string, args ...string) *exec.Cmd {
	path := filepath.Join(i.bin, name)
	if _, err := os.Stat(path); err != nil {
		path = name
	}
	if i.netns != "" {
		path, args = "nsenter", append([]string{"--net=" + i.netns, path}, args...)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = i.env
	return cmd
}

// must runs a command and answers its stdout.
func (i *instance) must(t *testing.T, name string, args ...string) string {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := i.command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return out.String()
}

// freeRanges finds two ranges that no route of this machine touches.
func freeRanges(t *testing.T) (pods, services netip.Prefix) {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var free []netip.Prefix
	start := os.Getpid() % 60
	for n := range 60 {
		p := netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", 180+(start+n)%60))
		if !slices.ContainsFunc(addrs, func(a net.Addr) bool {
			have, err := netip.ParsePrefix(a.String())
			return err == nil && have.Overlaps(p)
		}) {
			free = append(free, p)
		}
		if len(free) == 2 {
			return free[0], free[1]
		}
	}
	t.Fatal("no free address range")
	return
}

// checkNothingLeft looks for what a removed instance must not leave: processes, mounts, cgroups, links, tables, files.
func (i *instance) checkNothingLeft(t *testing.T) {
	t.Helper()
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		if line, err := os.ReadFile(p); err == nil && (bytes.Contains(line, []byte(i.data)) || bytes.Contains(line, []byte(i.run+"/"))) {
			t.Errorf("left behind: process %s %s", filepath.Base(filepath.Dir(p)), bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
		}
	}
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(m.Mountpoint, i.data) && !strings.HasPrefix(m.Mountpoint, i.run), false
	})
	if err != nil {
		t.Error(err)
	}
	for _, m := range mounts {
		t.Errorf("left behind: mount %s", m.Mountpoint)
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + i.name)
	for _, g := range append(groups, "/sys/fs/cgroup/"+i.name) {
		if _, err := os.Stat(g); err == nil {
			t.Errorf("left behind: cgroup %s", g)
		}
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Error(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Name, i.name) {
			t.Errorf("left behind: link %s", l.Name)
		}
	}
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		t.Error(err)
	}
	for _, table := range tables {
		if strings.HasPrefix(table.Name, i.name+"-") || table.Name == i.name {
			t.Errorf("left behind: nftables table %s", table.Name)
		}
	}
	if entries, _ := os.ReadDir(i.data); len(entries) > 0 {
		t.Errorf("left behind in the data folder: %v", entries)
	}
}
