// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/knarr/knarr/internal/errs"
)

func (w *world) sandbox(s SandboxSpec) Sandbox {
	w.t.Helper()
	b, err := w.CreateSandbox(w.ctx(), s)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func TestSandboxIsShared(t *testing.T) {
	w := newWorld(t)
	b := w.sandbox(SandboxSpec{ID: "pod-1", Hostname: "pod-host", CgroupParent: "kubepods/burstable/pod1", Resources: Resources{Memory: 200 << 20},
		DNS: []string{"10.43.0.10"}, DNSSearch: []string{"default.svc.cluster.local"}, Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shm_rmid_forced": "1"}})
	if !b.Ready || !b.IP.IsValid() || b.Cgroup != "/"+w.name+"/kubepods/burstable/pod1" {
		t.Fatalf("%+v", b)
	}
	if again := w.sandbox(SandboxSpec{ID: "pod-1"}); again.IP != b.IP {
		t.Errorf("made twice: %v and %v", b.IP, again.IP)
	}
	server := w.start(Spec{Sandbox: "pod-1", Cmd: []string{"serve", "8080", "from the pod"}})
	w.ready(server.ID)
	for verb, want := range map[string]string{
		"dial 127.0.0.1:8080":  "from the pod\n",
		"host":                 "pod-host\n",
		"cat /etc/hostname":    "pod-host\n",
		"cat /etc/resolv.conf": "nameserver 10.43.0.10\nsearch default.svc.cluster.local\n",
		"cat /proc/sys/net/ipv4/ip_unprivileged_port_start": "0\n",
		"cat /proc/sys/kernel/shm_rmid_forced":              "1\n",
	} {
		if _, out := w.run(Spec{Sandbox: "pod-1", Cmd: strings.Fields(verb)}); !strings.HasPrefix(out, want) {
			t.Errorf("%s: %q, want %q", verb, out, want)
		}
	}
	if _, out := w.run(Spec{Cmd: []string{"dial", b.IP.String() + ":8080"}}); out != "from the pod\n" {
		t.Errorf("from outside: %q", out)
	}
	conn, err := w.DialSandbox(w.ctx(), "pod-1", 8080)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(conn); err != nil || string(text) != "from the pod\n" {
		t.Errorf("dialled: %q %v", text, err)
	}
	conn.Close()
	if s, err := w.SandboxStats(w.ctx(), "pod-1"); err != nil || s.MemoryLimit != 200<<20 || s.Pids == 0 {
		t.Errorf("stats: %+v %v", s, err)
	}
	if err := w.RemoveSandbox(w.ctx(), "pod-1"); err != nil {
		t.Fatal(err)
	}
	if c, err := w.Get(server.ID); err != nil || c.State != Exited || c.ExitCode != 137 {
		t.Errorf("its container: %s, %d, %v", c.State, c.ExitCode, err)
	}
	if err := w.Start(w.ctx(), server.ID); !errors.Is(err, errs.NotFound) {
		t.Errorf("started without its sandbox: %v", err)
	}
	for _, root := range w.groupRoots() {
		if exists(root + "/" + w.name + "/kubepods") {
			t.Error("empty parent groups are left in", root)
		}
	}
}

func TestSandboxSharesPIDs(t *testing.T) {
	w := newWorld(t)
	w.sandbox(SandboxSpec{ID: "pids", SharePID: true})
	first := w.start(Spec{Sandbox: "pids", Cmd: []string{"wait", "0"}})
	w.ready(first.ID)
	if _, out := w.run(Spec{Sandbox: "pids", Cmd: []string{"cat", "/proc/1/cmdline"}}); !strings.Contains(out, "pid1") {
		t.Errorf("PID 1 is %q", out)
	}
	if _, out := w.run(Spec{Sandbox: "pids", Cmd: []string{"ls", "/proc"}}); strings.Count(out, "/proc/1") < 1 {
		t.Errorf("processes: %q", out)
	}
	if err := w.Stop(w.ctx(), first.ID, nil); err != nil {
		t.Fatal(err)
	}
	if code, out := w.run(Spec{Sandbox: "pids", Cmd: []string{"echo", "still"}}); code != 0 || out != "still\n" {
		t.Errorf("after the first has ended: %d %q", code, out)
	}
}

func TestSandboxOfTheHost(t *testing.T) {
	w := newWorld(t)
	b := w.sandbox(SandboxSpec{ID: "host", HostNetwork: true, HostPID: true, HostIPC: true})
	if b.IP.IsValid() || b.NetnsPath != "" {
		t.Errorf("%+v", b)
	}
	host, _ := os.Hostname()
	if _, out := w.run(Spec{Sandbox: "host", Cmd: []string{"host"}}); out != host+"\n" {
		t.Errorf("hostname %q, want %q", out, host)
	}
	want, _ := os.Readlink("/proc/self/ns/net")
	if _, out := w.run(Spec{Sandbox: "host", Cmd: []string{"link", "/proc/self/ns/net"}}); out != want+"\n" {
		t.Errorf("network namespace %q, want %q", out, want)
	}
}

func TestBadSandboxIsRefusedWhole(t *testing.T) {
	w := newWorld(t)
	for name, s := range map[string]SandboxSpec{
		"id":          {ID: "A/b"},
		"host sysctl": {ID: "x", HostNetwork: true, Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}},
		"sysctl":      {ID: "x", Sysctls: map[string]string{"kernel.core_pattern": "|/x"}},
		"newline":     {ID: "x", Sysctls: map[string]string{"net.ipv4.ip_forward": "1\n2"}},
		"network":     {ID: "x", Network: "nosuch"},
	} {
		if _, err := w.CreateSandbox(w.ctx(), s); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if len(w.Sandboxes()) > 0 || len(w.Check(w.ctx())) > 0 {
		t.Error("left:", w.Sandboxes(), w.Check(w.ctx()))
	}
}
