// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestContainersOutliveTheDaemon kills the daemon without warning while ten containers and ten pods run. They go on with
// the same processes; a container that ends while no daemon is there keeps its exit code; and after the restart all of it is
// known again.
func TestContainersOutliveTheDaemon(t *testing.T) {
	needRoot(t)
	const n = 10
	i := newInstance(t, buildBinaries(t))
	i.up(t)
	i.buildPayload(t)
	for k := range n {
		i.must(t, "knarr", "run", "-d", "--name", fmt.Sprint("c", k), "payload", "count")
	}
	i.must(t, "kubectl", "create", "deployment", "web", "--image=payload", fmt.Sprint("--replicas=", n))
	i.must(t, "kubectl", "rollout", "status", "deployment/web", "--timeout=60s")
	pods := i.must(t, "kubectl", "get", "pods", "-o", "name", "--sort-by=.metadata.name")

	before := i.pids(t)
	if len(before) != 2*n {
		t.Fatalf("%d containers run, want %d", len(before), 2*n)
	}
	i.killDaemon(t)
	for _, pid := range before {
		if err := syscall.Kill(pid, 0); err != nil {
			t.Errorf("process %d did not outlive the daemon: %v", pid, err)
		}
	}
	// One ends while nobody looks.
	if err := syscall.Kill(before["c0"], syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	i.up(t)

	if got := strings.TrimSpace(i.must(t, "knarr", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "c0")); got != "exited 7" {
		t.Errorf("the container that ended meanwhile is %q, want exited 7", got)
	}
	after := i.pids(t)
	delete(before, "c0")
	for name, pid := range before {
		if after[name] != pid {
			t.Errorf("%s has process %d after the restart, want %d", name, after[name], pid)
		}
	}
	i.must(t, "kubectl", "wait", "--for=condition=Ready", "pods", "--all", "--timeout=30s")
	if got := i.must(t, "kubectl", "get", "pods", "-o", "name", "--sort-by=.metadata.name"); got != pods {
		t.Errorf("pods are\n%s, want the same as before:\n%s", got, pods)
	}
	if got := i.must(t, "kubectl", "get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}"); strings.Trim(got, "0 ") != "" {
		t.Errorf("restart counts %q, want all 0", got)
	}
	i.must(t, "knarr", append([]string{"fsck"}, i.flags()...)...)
	// The log has no gap: the counter's lines are all there.
	lines := strings.Split(strings.TrimSpace(i.must(t, "knarr", "logs", "c1")), "\n")
	for k, l := range lines {
		if l != fmt.Sprint("line ", k) {
			t.Fatalf("log line %d of c1 is %q", k, l)
		}
	}
}

// pids are the main processes of the running containers, by name.
func (i *instance) pids(t *testing.T) map[string]int {
	t.Helper()
	ids := strings.Fields(i.must(t, "knarr", "ps", "-q", "--no-trunc"))
	if len(ids) == 0 {
		t.Fatal("nothing runs")
	}
	out := map[string]int{}
	for line := range strings.Lines(i.must(t, "knarr", append([]string{"inspect", "-f", "{{.Name}} {{.State.Pid}}"}, ids...)...)) {
		name, pid, _ := strings.Cut(strings.TrimSpace(line), " ")
		v, err := strconv.Atoi(pid)
		if err != nil || v == 0 {
			t.Fatalf("inspect says %q", line)
		}
		out[strings.TrimPrefix(name, "/")] = v
	}
	return out
}

// killDaemon sends SIGKILL to the daemon. The next up waits until it has let go of everything.
func (i *instance) killDaemon(t *testing.T) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(i.run, "knarrd.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
