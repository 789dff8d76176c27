// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// An ordinary user runs a container in a user namespace that knows his own id alone, without a cgroup of its own.
func TestRootless(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "knarr-rootless") // t.TempDir is root's alone
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o755))
	for _, d := range []string{"state", "bundle", "bundle/rootfs"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(dir, "bundle/rootfs/pause"), tiny(t, callPause), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "bundle/rootfs/true"), tiny(t, callExit), 0o755))
	shim := filepath.Join(dir, "knarr-shim")
	data, err := os.ReadFile(build(t))
	must(t, err)
	must(t, os.WriteFile(shim, data, 0o755))
	must(t, exec.Command("chown", "-R", "65534:65534", dir).Run())

	limit := int64(1 << 20)
	ids := []specs.LinuxIDMapping{{HostID: nobody, Size: 1}}
	spec := specs.Spec{Version: specs.Version, Root: &specs.Root{Path: "rootfs"}, Process: &specs.Process{Args: []string{"/pause"}, Cwd: "/", NoNewPrivileges: true},
		Mounts: []specs.Mount{{Destination: "/proc", Type: "proc"}, {Destination: "/dev", Type: "tmpfs"}, {Destination: "/sys", Type: "sysfs"}},
		Linux: &specs.Linux{UIDMappings: ids, GIDMappings: ids, Namespaces: []specs.LinuxNamespace{{Type: specs.UserNamespace}, {Type: specs.PIDNamespace},
			{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}, {Type: specs.IPCNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.TimeNamespace}},
			TimeOffsets: map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000}}}}
	write := func() {
		data, err := json.Marshal(spec)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "bundle/config.json"), data, 0o644))
	}
	run := func(args ...string) (string, error) {
		cmd := exec.Command(shim, append([]string{"--root", dir + "/state", "--log", dir + "/state/.log"}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := os.Create(filepath.Join(t.TempDir(), "out")) // a pipe would stay open in the container
		must(t, err)
		defer out.Close()
		cmd.Stdout, cmd.Stderr = out, out
		err = cmd.Run()
		text, _ := os.ReadFile(out.Name())
		return string(text), err
	}
	do := func(args ...string) string {
		t.Helper()
		out, err := run(args...)
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		return out
	}

	spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	write()
	if out, err := run("create", "--bundle", dir+"/bundle", "c"); err == nil || !strings.Contains(out, "cgroup") {
		t.Errorf("a limit that cannot hold was accepted: %v: %s", err, out)
	}
	spec.Linux.Resources = nil
	write()
	do("run", "--detach", "--bundle", dir+"/bundle", "c")
	defer func() { _, _ = run("delete", "--force", "c") }()
	do("exec", "--cwd", "/", "c", "/true")
	var st specs.State
	must(t, json.Unmarshal([]byte(do("state", "c")), &st))
	ids2, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", st.Pid))
	if err != nil || strings.Join(strings.Fields(string(ids2)), " ") != "0 65534 1" || st.Status != specs.StateRunning {
		t.Errorf("%s, uid_map %q, %v", st.Status, ids2, err)
	}
	do("delete", "--force", "c")
	if left, _ := os.ReadDir(dir + "/state"); len(left) > 1 { // the log
		t.Errorf("left %v", left)
	}
}
