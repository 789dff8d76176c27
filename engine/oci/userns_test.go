// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mapped is a fixture in a user namespace of its own: the container's ids from 0 are the host's from 100000.
func mapped(t *testing.T, args ...string) *fixture {
	f := newFixture(t, args...)
	m := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	f.spec.Linux.UIDMappings, f.spec.Linux.GIDMappings = m, m
	f.spec.Linux.Namespaces = append(f.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	must(t, os.Chown(f.rootfs, 100000, 100000))
	must(t, os.Chmod(f.bundle, 0o700)) // as a data folder is: the container's root cannot walk to its own root file system
	return f
}

func TestUserNamespaceWhole(t *testing.T) {
	f := mapped(t, "cat", "/proc/self/uid_map", "/proc/self/status", "/proc/self/oom_score_adj", "/proc/mounts")
	adj := 300
	f.spec.Process.OOMScoreAdj = &adj
	f.spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 77, Hard: 99}}
	out, code := f.run()
	if code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	if !strings.Contains(strings.Join(strings.Fields(out), " "), "0 100000 65536") || field(out, "Uid") != "0\t0\t0\t0" || !strings.Contains(out, "\n300\n") {
		t.Errorf("not as asked for: %s", out)
	}
	for _, line := range []string{"/dev/null devtmpfs", "/proc/keys", "sysfs /sys sysfs ro"} {
		if !strings.Contains(out, line) && !strings.Contains(out, strings.Replace(line, "/dev/null devtmpfs", " /dev/null ", 1)) {
			t.Errorf("no %q in %s", line, out)
		}
	}
	leftovers(t, f)
}

// execIn runs one more process in the running container and gives its output.
func (f *fixture) execIn(p specs.Process) string {
	f.t.Helper()
	out, err := os.Create(filepath.Join(f.t.TempDir(), "out"))
	must(f.t, err)
	defer out.Close()
	pid, err := f.runtime.Exec(f.id, ExecOptions{Process: p, CreateOptions: CreateOptions{Stdio: [3]*os.File{nil, out, out}}})
	must(f.t, err)
	if code := wait(f.t, pid); code != 0 {
		f.t.Errorf("exec: exit %d", code)
	}
	text, err := os.ReadFile(out.Name())
	must(f.t, err)
	return strings.TrimSpace(string(text))
}

func TestExecIntoUserNamespace(t *testing.T) {
	f := mapped(t, "sleep")
	f.spec.Linux.Namespaces = append(f.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	f.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 86400 * 500}}
	pid, err := f.create()
	must(t, err)
	must(t, f.runtime.Start(f.id))
	out := f.execIn(specs.Process{Args: []string{"/payload", "cat", "/proc/self/status", "/proc/self/uid_map", "/proc/uptime"}, Cwd: "/",
		User: specs.User{UID: 7, GID: 8}, Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 50, Hard: 60}}})
	if field(out, "Uid") != "7\t7\t7\t7" || field(out, "CapEff") != "0000000000000000" || !strings.Contains(out, "100000") {
		t.Errorf("exec: %s", out)
	}
	lines := strings.Split(out, "\n")
	if up, _, _ := strings.Cut(lines[len(lines)-1], "."); len(up) < 8 {
		t.Errorf("uptime %s: the time namespace was not joined", up)
	}
	for _, ns := range []string{"user", "mnt", "pid", "net", "time"} {
		want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
		must(t, err)
		got := f.execIn(specs.Process{Args: []string{"/payload", "link", "/proc/self/ns/" + ns}, Cwd: "/"})
		if got != want {
			t.Errorf("%s namespace %s, want %s", ns, got, want)
		}
	}
	must(t, f.runtime.Kill(f.id, unix.SIGKILL, false))
	wait(t, pid)
}

// Every type of namespace can be joined by its path, whoever made it.
func TestJoinNamespacesByPath(t *testing.T) {
	holder := mapped(t, "sleep")
	holder.spec.Linux.Namespaces = append(holder.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	pid, err := holder.create()
	must(t, err)
	defer func() {
		must(t, holder.runtime.Delete(holder.id, true))
		wait(t, pid)
	}()
	// A mount namespace is of use only if the root file system is to be seen in it.
	viewer := exec.Command("sleep", "60")
	viewer.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	must(t, viewer.Start())
	defer func() { _ = viewer.Process.Kill(); _ = viewer.Wait() }()
	for _, types := range [][]string{{"uts"}, {"user"}, {"user", "net", "uts", "ipc"}, {"mnt"}, {"time"}, {"cgroup"}, {"user", "uts", "ipc", "net", "cgroup", "time", "pid"}} {
		t.Run(strings.Join(types, "+"), func(t *testing.T) {
			f := newFixture(t)
			f.spec.Process.Args = []string{"/payload", "link"}
			var want []string
			names := map[string]specs.LinuxNamespaceType{"mnt": specs.MountNamespace, "net": specs.NetworkNamespace}
			for _, typ := range types {
				file := "/proc/" + strconv.Itoa(pid) + "/ns/" + typ
				if typ == "mnt" {
					file = "/proc/" + strconv.Itoa(viewer.Process.Pid) + "/ns/mnt"
				}
				f.spec.Process.Args = append(f.spec.Process.Args, "/proc/self/ns/"+typ)
				link, err := os.Readlink(file)
				must(t, err)
				want = append(want, link)
				n := specs.LinuxNamespace{Type: specs.LinuxNamespaceType(typ), Path: file}
				if names[typ] != "" {
					n.Type = names[typ]
				}
				kept := []specs.LinuxNamespace{n}
				for _, have := range f.spec.Linux.Namespaces {
					if have.Type != n.Type {
						kept = append(kept, have)
					}
				}
				f.spec.Linux.Namespaces = kept
				if typ == "user" {
					must(t, os.Chown(f.rootfs, 100000, 100000))
				}
				if typ == "uts" {
					f.spec.Hostname = ""
				}
			}
			out, code := f.run()
			if got := strings.Fields(out); code != 0 || strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("exit %d, namespaces %s, want %v", code, out, want)
			}
			leftovers(t, f)
		})
	}
}

func TestIDMappedMount(t *testing.T) {
	for _, inUserNS := range []bool{false, true} {
		f := newFixture(t, "owner", "/data/file")
		if inUserNS {
			f = mapped(t, "owner", "/data/file")
		}
		source := t.TempDir()
		must(t, os.WriteFile(filepath.Join(source, "file"), nil, 0o644))
		must(t, os.Chown(filepath.Join(source, "file"), 5, 6))
		mount := specs.Mount{Destination: "/data", Source: source, Options: []string{"rbind"}}
		want := "1005 2006"
		if inUserNS {
			mount.Options = append(mount.Options, "idmap") // the container's own: what is 5 on disk is 5 inside
			want = "5 6"
		} else {
			mount.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 100}}
			mount.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 2000, Size: 100}}
		}
		f.spec.Mounts = append(f.spec.Mounts, mount)
		out, code := f.run()
		if code != 0 || out != want {
			t.Errorf("user namespace %v: exit %d, owner %q, want %q", inUserNS, code, out, want)
		}
	}
}
