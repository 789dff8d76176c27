// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA1019 bundles may still have prestart hooks

package oci

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestLifeCycle(t *testing.T) {
	f := newFixture(t, "exit", "7")
	pid, err := f.create()
	must(t, err)
	status := func(want specs.ContainerState) {
		t.Helper()
		st, err := f.runtime.State(f.id)
		must(t, err)
		if st.Status != want {
			t.Fatalf("status %s, want %s", st.Status, want)
		}
	}
	status(specs.StateCreated)
	if _, err := f.runtime.Create(f.id, f.bundle, CreateOptions{}); !errors.Is(err, errs.Exists) {
		t.Errorf("a second create: %v, want Exists", err)
	}
	must(t, f.runtime.Start(f.id))
	if code := wait(t, pid); code != 7 {
		t.Errorf("exit status %d, want 7", code)
	}
	status(specs.StateStopped)
	if err := f.runtime.Start(f.id); !errors.Is(err, errs.Conflict) {
		t.Errorf("start of a stopped container: %v, want Conflict", err)
	}
	if err := f.runtime.Kill(f.id, unix.SIGTERM, false); !errors.Is(err, errs.Gone) {
		t.Errorf("kill of a stopped container: %v, want Gone", err)
	}
	must(t, f.runtime.Delete(f.id, false))
	if _, err := f.runtime.State(f.id); !errors.Is(err, errs.NotFound) {
		t.Errorf("state after delete: %v, want NotFound", err)
	}
	leftovers(t, f)
}

func TestKillPauseAndDelete(t *testing.T) {
	f := newFixture(t, "sleep")
	pid, err := f.create()
	must(t, err)
	must(t, f.runtime.Start(f.id))
	if err := f.runtime.Delete(f.id, false); !errors.Is(err, errs.Conflict) {
		t.Errorf("delete of a running container: %v, want Conflict", err)
	}
	must(t, f.runtime.Pause(f.id))
	if st, _ := f.runtime.State(f.id); st.Status != StatusPaused {
		t.Errorf("status %s, want paused", st.Status)
	}
	must(t, f.runtime.Kill(f.id, unix.SIGKILL, false)) // also of a frozen one
	if code := wait(t, pid); code != 137 {
		t.Errorf("exit status %d, want 137", code)
	}
	must(t, f.runtime.Delete(f.id, false))
	leftovers(t, f)
}

func TestWhatTheProgramSees(t *testing.T) {
	f := newFixture(t, "cat", "/proc/self/status", "/proc/sys/kernel/hostname", "/proc/self/cgroup")
	adj, umask := 500, uint32(0o027)
	f.spec.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 6}, Umask: &umask}
	f.spec.Process.OOMScoreAdj = &adj
	f.spec.Process.NoNewPrivileges = true
	f.spec.Process.Capabilities.Ambient = []string{"CAP_KILL"}
	out, code := f.run()
	if code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	for name, want := range map[string]string{"Uid": "1000\t1000\t1000\t1000", "Gid": "1001\t1001\t1001\t1001", "Groups": "5 6",
		"Umask": "0027", "NoNewPrivs": "1", "CapInh": "0000000000000020", "CapAmb": "0000000000000020",
		"CapPrm": "0000000000000020", "CapBnd": "00000000000000a1", "Pid": "1"} {
		if got := field(out, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if !strings.Contains(out, "\nbox\n") {
		t.Error("the hostname is not set")
	}
	if strings.Contains(out, f.id) {
		t.Error("the cgroup namespace shows the host's path")
	}
}

func TestLimitsHoldInFilesAndInTime(t *testing.T) {
	f := newFixture(t, "burn")
	quota, period, mem, pids := int64(20000), uint64(100000), int64(64<<20), int64(50)
	f.spec.Linux.Resources.CPU = &specs.LinuxCPU{Quota: &quota, Period: &period}
	f.spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &mem}
	f.spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: &pids}
	pid, err := f.create()
	must(t, err)
	g, err := f.runtime.Group(f.id)
	must(t, err)
	st, err := g.Stat()
	must(t, err)
	if st.Memory.Limit != uint64(mem) || st.Pids.Limit != uint64(pids) {
		t.Errorf("limits are %d bytes and %d tasks", st.Memory.Limit, st.Pids.Limit)
	}
	must(t, f.runtime.Start(f.id))
	wait(t, pid)
	if used, _ := strconv.Atoi(f.output()); used < 50 || used > 450 {
		t.Errorf("used %d ms of processor time in a second, with a limit of 200", used)
	}
	if st, _ = g.Stat(); st.CPU.Throttled == 0 {
		t.Error("it was never throttled")
	}
}

func TestOutOfMemoryIsCounted(t *testing.T) {
	f := newFixture(t, "eat")
	mem := int64(32 << 20)
	f.spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &mem, Swap: &mem}
	pid, err := f.create()
	must(t, err)
	must(t, f.runtime.Start(f.id))
	if code := wait(t, pid); code != 137 {
		t.Errorf("exit %d, want 137", code)
	}
	g, err := f.runtime.Group(f.id)
	must(t, err)
	if g.OOMKills() == 0 {
		t.Error("the kill is not counted")
	}
}

func TestCreateErrorsNameTheProgramAndLeaveNothing(t *testing.T) {
	for _, c := range []struct {
		name, program string
		kind          error
		text          string
	}{
		{"not in PATH", "nothing-here", errs.NotFound, `exec: "nothing-here": executable file not found in $PATH`},
		{"no such file", "/no/such", errs.NotFound, `exec: "/no/such": stat /no/such: no such file or directory`},
		{"not executable", "/etc-file", errs.Denied, `exec: "/etc-file": permission denied`},
		{"a directory", "/proc", errs.Denied, `exec: "/proc": is a directory: permission denied`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			must(t, os.WriteFile(filepath.Join(f.rootfs, "etc-file"), nil, 0o644))
			f.spec.Process.Args = []string{c.program}
			_, err := f.create()
			if !errors.Is(err, c.kind) || err == nil || err.Error() != c.text {
				t.Errorf("error %q (%v), want %q", err, errs.Kind(err), c.text)
			}
			leftovers(t, f)
		})
	}
}

func TestExecJoinsTheContainer(t *testing.T) {
	f := newFixture(t, "sleep")
	initPid, err := f.create()
	must(t, err)
	must(t, f.runtime.Start(f.id))
	p := specs.Process{Args: []string{"/payload", "cat", "/proc/self/status", "/proc/sys/kernel/hostname"}, Cwd: "/",
		User: specs.User{UID: 7}, Capabilities: &specs.LinuxCapabilities{}}
	pid, err := f.runtime.Exec(f.id, ExecOptions{Process: p, CreateOptions: CreateOptions{Stdio: [3]*os.File{nil, f.out, f.out}}})
	must(t, err)
	if code := wait(t, pid); code != 0 {
		t.Fatalf("exit %d", code)
	}
	out := f.output()
	if !strings.Contains(out, "\nbox") || field(out, "Uid") != "7\t7\t7\t7" || field(out, "CapEff") != "0000000000000000" {
		t.Errorf("the process is not inside: %s", out)
	}
	if field(out, "Pid") == "1" || field(out, "Pid") == "" {
		t.Errorf("pid inside is %q", field(out, "Pid"))
	}
	_, err = f.runtime.Exec(f.id, ExecOptions{Process: specs.Process{Args: []string{"nope"}, Cwd: "/"}})
	if !errors.Is(err, errs.NotFound) {
		t.Errorf("exec of a missing program: %v", err)
	}
	must(t, f.runtime.Kill(f.id, unix.SIGKILL, true))
	if code := wait(t, initPid); code != 137 {
		t.Errorf("exit %d, want 137", code)
	}
}

func TestTerminalIsTheContainersOwn(t *testing.T) {
	f := newFixture(t, "isatty")
	f.spec.Process.Terminal = true
	f.write()
	ours, theirs, err := socketpair()
	must(t, err)
	defer ours.Close()
	pid, err := f.runtime.Create(f.id, f.bundle, CreateOptions{Console: theirs})
	theirs.Close()
	must(t, err)
	buf, oob := make([]byte, 32), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(ours.Fd()), buf, oob, 0)
	must(t, err)
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	must(t, err)
	fds, err := unix.ParseUnixRights(&messages[0])
	must(t, err)
	master := os.NewFile(uintptr(fds[0]), "master")
	defer master.Close()
	must(t, f.runtime.Start(f.id))
	line := make([]byte, 256)
	k, err := master.Read(line)
	must(t, err)
	if got := strings.TrimSpace(string(line[:k])); got != "true /dev/pts/0" {
		t.Errorf("the program sees %q", got)
	}
	wait(t, pid)
}

func TestHooksRunInTheirPlaces(t *testing.T) {
	f := newFixture(t, "cat", "/from-hook")
	log := filepath.Join(f.bundle, "hooks")
	hook := func(name string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo " + name + " >> " + log}}}
	}
	f.spec.Hooks = &specs.Hooks{Prestart: hook("prestart"), CreateRuntime: hook("createRuntime"), CreateContainer: hook("createContainer"),
		Poststart: hook("poststart"), Poststop: hook("poststop")}
	f.spec.Hooks.CreateContainer = append(f.spec.Hooks.CreateContainer, specs.Hook{Path: "/bin/sh",
		Args: []string{"sh", "-c", "echo made > " + f.rootfs + "/from-hook"}})
	out, _ := f.run()
	if out != "made" {
		t.Errorf("the program reads %q", out)
	}
	text, err := os.ReadFile(log)
	must(t, err)
	if got := strings.Fields(string(text)); strings.Join(got, " ") != "prestart createRuntime createContainer poststart poststop" {
		t.Errorf("hooks ran as %v", got)
	}
}

func TestFailingHookFailsCreateAndLeavesNothing(t *testing.T) {
	f := newFixture(t, "sleep")
	f.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo no luck >&2; exit 3"}}}}
	_, err := f.create()
	if err == nil || !strings.Contains(err.Error(), "no luck") {
		t.Errorf("error %v", err)
	}
	leftovers(t, f)
}

func TestUserNamespace(t *testing.T) {
	f := newFixture(t, "cat", "/proc/self/status", "/proc/self/uid_map")
	f.spec.Linux.Namespaces = append(f.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	f.spec.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	f.spec.Linux.GIDMappings = f.spec.Linux.UIDMappings
	must(t, os.Chown(f.rootfs, 100000, 100000))
	// A bind source must be reachable by the mapped root.
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	f.spec.Mounts = f.spec.Mounts[:len(f.spec.Mounts)-1]
	must(t, os.WriteFile(filepath.Join(f.rootfs, "payload"), self, 0o755))
	for dir := f.bundle; dir != "/"; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err == nil && st.Mode().Perm()&0o001 == 0 {
			must(t, os.Chmod(dir, 0o755))
		}
	}
	out, code := f.run()
	if code != 0 || field(out, "Uid") != "0\t0\t0\t0" || !strings.Contains(out, "100000") {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestNamespacesByPath(t *testing.T) {
	holder := newFixture(t, "sleep")
	pid, err := holder.create()
	must(t, err)
	defer func() {
		must(t, holder.runtime.Delete(holder.id, true))
		wait(t, pid)
	}()
	f := newFixture(t, "cat", "/proc/sys/kernel/hostname")
	f.spec.Hostname = ""
	for i, n := range f.spec.Linux.Namespaces {
		if file := map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net", specs.UTSNamespace: "uts", specs.IPCNamespace: "ipc", specs.PIDNamespace: "pid"}[n.Type]; file != "" {
			f.spec.Linux.Namespaces[i].Path = "/proc/" + strconv.Itoa(pid) + "/ns/" + file
		}
	}
	holder.spec.Hostname = "x"
	p, err := f.create()
	must(t, err)
	for _, file := range []string{"net", "uts", "ipc", "pid"} {
		a, _ := os.Readlink("/proc/" + strconv.Itoa(p) + "/ns/" + file)
		b, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/" + file)
		if a == "" || a != b {
			t.Errorf("%s namespaces differ: %s %s", file, a, b)
		}
	}
	must(t, f.runtime.Start(f.id))
	wait(t, p)
	if f.output() != "box" {
		t.Errorf("the hostname is %q", f.output())
	}
}

func TestCreatedContainerSleeps(t *testing.T) {
	f := newFixture(t, "exit", "5")
	one := int64(8) // the payload is a Go program with threads; init has to live with whatever is set
	f.spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: &one}
	pid, err := f.create()
	must(t, err)
	switches := func() (n int) {
		tasks, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/status")
		for _, task := range tasks {
			text, _ := os.ReadFile(task)
			v, _ := strconv.Atoi(field(string(text), "voluntary_ctxt_switches"))
			n += v
		}
		return n
	}
	_, _ = unix.Poll(nil, 200)
	before := switches()
	_, _ = unix.Poll(nil, 300)
	if n := switches() - before; n > 6 {
		t.Errorf("init woke up %d times in 0.3 s while it waited", n)
	}
	must(t, f.runtime.Start(f.id))
	if code := wait(t, pid); code != 5 {
		t.Errorf("exit %d", code)
	}
}

func TestTaskLimitOfOne(t *testing.T) {
	f := newFixture(t)
	must(t, os.WriteFile(filepath.Join(f.rootfs, "no-program"), []byte("x"), 0o755))
	f.spec.Process.Args = []string{"/no-program"}
	one := int64(1)
	f.spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: &one}
	pid, err := f.create()
	must(t, err)
	if err := f.runtime.Start(f.id); err == nil || !strings.Contains(err.Error(), "exec format error") {
		t.Errorf("start says %v; it shall come as far as execve", err)
	}
	wait(t, pid)
}
