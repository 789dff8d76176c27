// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The test binary is also the runtime's init and, bound into the root file system as /payload, the container's program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		Init(os.Args[2:])
	}
	if len(os.Args) > 1 && filepath.Base(os.Args[0]) == "payload" {
		os.Exit(payload(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func payload(args []string) int {
	switch args[0] {
	case "exit":
		n, _ := strconv.Atoi(args[1])
		return n
	case "sleep":
		time.Sleep(time.Minute) //house:allow time.Sleep: the payload is a process that sleeps
	case "cat":
		for _, name := range args[1:] {
			text, err := os.ReadFile(name)
			if err != nil {
				fmt.Println(err)
			}
			os.Stdout.Write(text)
		}
	case "write":
		if err := os.WriteFile(args[1], []byte(args[2]), 0o644); err != nil {
			fmt.Println(err)
			return 1
		}
	case "fds":
		// Go opens its own only after these were inherited, so stat by number is enough for what came from outside.
		for fd := range 512 {
			if link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); err == nil && !strings.HasPrefix(link, "anon_inode:") {
				fmt.Println(fd)
			}
		}
	case "burn":
		start := time.Now()
		for time.Since(start) < time.Second {
		}
		var ru unix.Rusage
		_ = unix.Getrusage(unix.RUSAGE_SELF, &ru)
		fmt.Println(time.Duration(ru.Utime.Nano() + ru.Stime.Nano()).Milliseconds())
	case "eat":
		var all [][]byte
		for range 64 {
			b := make([]byte, 4<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
		}
		return len(all)
	case "link":
		for _, name := range args[1:] {
			target, err := os.Readlink(name)
			if err != nil {
				target = err.Error()
			}
			fmt.Println(target)
		}
	case "owner":
		var st unix.Stat_t
		if err := unix.Stat(args[1], &st); err != nil {
			fmt.Println(err)
		}
		fmt.Println(st.Uid, st.Gid)
	case "mkdir":
		fmt.Println(unix.Mkdir(args[1], 0o755))
	case "cwd":
		fmt.Println(os.Getwd())
	case "isatty":
		_, err := unix.IoctlGetTermios(0, unix.TCGETS)
		link, _ := os.Readlink("/proc/self/fd/0")
		fmt.Println(err == nil, link)
	}
	return 0
}

// fixture is one bundle and a runtime of its own.
type fixture struct {
	t       *testing.T
	runtime Runtime
	bundle  string
	rootfs  string
	id      string
	spec    *specs.Spec
	out     *os.File
	warned  []string
	console *os.File
}

func newFixture(t *testing.T, args ...string) *fixture {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	f := &fixture{t: t, bundle: dir, rootfs: filepath.Join(dir, "rootfs"), id: fmt.Sprintf("t%x", rand.Uint64())}
	f.runtime = Runtime{Root: filepath.Join(dir, "state"), Warn: func(s string) { f.warned = append(f.warned, s) }}
	must(t, os.Mkdir(f.rootfs, 0o755))
	self, err := os.Executable()
	must(t, err)
	f.out, err = os.Create(filepath.Join(dir, "out"))
	must(t, err)
	caps := []string{"CAP_CHOWN", "CAP_KILL", "CAP_SETUID"}
	f.spec = &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs"},
		Process: &specs.Process{Args: append([]string{"/payload"}, args...), Cwd: "/", Env: []string{"PATH=/bin:/"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps, Inheritable: caps}},
		Hostname: "box",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=64k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
			{Destination: "/payload", Type: "bind", Source: self, Options: []string{"bind", "ro"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/knarr-test-" + f.id,
			Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.UTSNamespace},
				{Type: specs.IPCNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.CgroupNamespace}},
			MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/sys", "/proc/sysrq-trigger"},
			Resources:     &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
		},
	}
	t.Cleanup(func() {
		_ = f.runtime.Delete(f.id, true)
		f.out.Close()
	})
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) write() {
	f.t.Helper()
	data, err := json.Marshal(f.spec)
	must(f.t, err)
	must(f.t, os.WriteFile(filepath.Join(f.bundle, "config.json"), data, 0o600))
}

func (f *fixture) create() (int, error) {
	f.t.Helper()
	f.write()
	return f.runtime.Create(f.id, f.bundle, CreateOptions{Stdio: [3]*os.File{nil, f.out, f.out}, Console: f.console})
}

// run runs the container to its end and gives its output and exit status.
func (f *fixture) run() (string, int) {
	f.t.Helper()
	pid, err := f.create()
	must(f.t, err)
	must(f.t, f.runtime.Start(f.id))
	code := wait(f.t, pid)
	must(f.t, f.runtime.Delete(f.id, false))
	return f.output(), code
}

func (f *fixture) output() string {
	text, err := os.ReadFile(f.out.Name())
	must(f.t, err)
	return strings.TrimSpace(string(text))
}

func wait(t *testing.T, pid int) int {
	t.Helper()
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		must(t, err)
		if ws.Signaled() {
			return 128 + int(ws.Signal())
		}
		return ws.ExitStatus()
	}
}

// field is the value of one line of a /proc status file.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func leftovers(t *testing.T, f *fixture) {
	t.Helper()
	if entries, _ := os.ReadDir(f.runtime.Root); len(entries) > 0 {
		t.Errorf("state is left: %v", entries)
	}
	found, _ := filepath.Glob("/sys/fs/cgroup/*/knarr-test-" + f.id)
	if one, _ := filepath.Glob("/sys/fs/cgroup/knarr-test-" + f.id); len(found)+len(one) > 0 {
		t.Errorf("cgroups are left: %v %v", found, one)
	}
	table, _ := os.ReadFile("/proc/self/mountinfo")
	if bytes.Contains(table, []byte(f.bundle)) {
		t.Errorf("a mount is left below %s", f.bundle)
	}
}
