// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite the goldens")

func sample() *specs.Spec {
	return &specs.Spec{
		Root: &specs.Root{Path: "rootfs", Readonly: true}, Process: &specs.Process{Terminal: true}, Hostname: "box",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid"}},
			{Destination: "/data", Type: "bind", Source: "/srv/data", Options: []string{"rbind", "rro", "rslave"}},
			{Destination: "/run", Type: "tmpfs", Options: []string{"tmpcopyup", "size=1m"}},
		},
		Linux: &specs.Linux{
			Namespaces:  []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace, Path: "/run/ipc"}},
			Sysctl:      map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmax": "2", "net/ipv4/conf/eth0.100/forwarding": "1"},
			Devices:     []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}},
			MaskedPaths: []string{"/proc/kcore"}, ReadonlyPaths: []string{"/proc/sys"},
		},
	}
}

func TestStepsGolden(t *testing.T) {
	for name, f := range map[string]Facts{
		"v2":     {Rootfs: "/r", CgroupV2: "/sys/fs/cgroup", CgroupPath: "/knarr/x"},
		"hybrid": {Rootfs: "/r", CgroupV1: map[string]string{"cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory"}, CgroupV2: "/sys/fs/cgroup/unified", CgroupPath: "/knarr/x"},
	} {
		steps, err := Steps(sample(), f)
		must(t, err)
		var b strings.Builder
		for _, s := range steps {
			fmt.Fprintf(&b, "%+v\n", plain(s))
		}
		file := "testdata/steps-" + name + ".golden"
		if *update {
			must(t, os.MkdirAll("testdata", 0o755))
			must(t, os.WriteFile(file, []byte(b.String()), 0o644))
		}
		want, err := os.ReadFile(file)
		must(t, err)
		if string(want) != b.String() {
			t.Errorf("%s: steps differ; look at them and run with -update if they are meant:\n%s", name, b.String())
		}
	}
}

// plain is a Step without its String method, and with only what is set.
func plain(s Step) string {
	out := string(s.Op)
	for _, f := range []struct {
		name string
		v    any
		set  bool
	}{
		{"target", s.Target, s.Target != ""}, {"source", s.Source, s.Source != ""}, {"type", s.FSType, s.FSType != ""},
		{"options", s.Options, len(s.Options) > 0}, {"attr", s.Attr, s.Attr != Attr{}}, {"recattr", s.RecAttr, s.RecAttr != Attr{}},
		{"propagation", s.Propagation, len(s.Propagation) > 0}, {"recursive", s.Recursive, s.Recursive}, {"copyup", s.CopyUp, s.CopyUp},
		{"flags", s.Flags, s.Flags != 0}, {"device", s.Device, s.Device != Device{}}, {"value", s.Value, s.Value != ""},
	} {
		if f.set {
			out += fmt.Sprintf(" %s=%v", f.name, f.v)
		}
	}
	return out
}

func TestFaultsAreAllReported(t *testing.T) {
	s := sample()
	s.Linux.Namespaces = s.Linux.Namespaces[:1]
	s.Linux.Sysctl = map[string]string{"kernel.core_pattern": "|/bin/sh", "net.x": "1", "net/../../kernel/core_pattern": "x", "kernel.shm+x": "1"}
	s.Linux.RootfsPropagation = "sideways"
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/"}, specs.Mount{Destination: "/x", Options: []string{"bind"}}, specs.Mount{Destination: "/y"})
	s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{Path: "null", Type: "c"}, specs.LinuxDevice{Path: "/dev/x", Type: "z"})
	_, err := Steps(s, Facts{Rootfs: "/r", CgroupV2: "/sys/fs/cgroup"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"hostname: the container shares", `"kernel.core_pattern" is not a namespaced`, `"net.x" would change the host`,
		`"net/../../kernel/core_pattern" is not`, `"kernel.shm+x" is not`, `"sideways"`, "mounts[5] (/)", "mounts[6] (/x): a bind mount needs", "mounts[7] (/y): no type",
		`path "null" is not absolute`, `/dev/x: type "z"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
}

func TestLaterOptionWins(t *testing.T) {
	for options, want := range map[string]Attr{
		"ro":             {Set: unix.MOUNT_ATTR_RDONLY},
		"ro rw":          {Clear: unix.MOUNT_ATTR_RDONLY},
		"rw ro nosuid":   {Set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID},
		"noatime":        {Set: unix.MOUNT_ATTR_NOATIME, Clear: unix.MOUNT_ATTR__ATIME},
		"defaults rbind": {},
	} {
		var s Step
		for _, o := range strings.Fields(options) {
			s.option(o)
		}
		if s.Attr != want {
			t.Errorf("%s: %+v, want %+v", options, s.Attr, want)
		}
	}
}

func TestCapabilitiesAreNoMoreThanTheMachineHas(t *testing.T) {
	all := []string{"CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_NONSENSE"}
	have := ^uint64(0) &^ (1 << unix.CAP_SYS_RESOURCE)
	got, warnings := resolveCaps(&specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all, Inheritable: all, Ambient: []string{"CAP_CHOWN"}}, have)
	if want := (capSets{Bounding: 1, Effective: 1, Permitted: 1, Inheritable: 1, Ambient: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if len(warnings) == 0 {
		t.Error("no warning about the unknown one")
	}
}

func TestMountOf(t *testing.T) {
	table := "1 0 8:1 / / rw - ext4 a rw\n2 1 8:1 / /a rw - ext4 a rw\n3 2 8:1 / /a/b\\040c rw - ext4 a rw\n"
	for p, want := range map[string]string{"/x": "/", "/a": "/a", "/ab": "/", "/a/b c/d": "/a/b c"} {
		if got := mountOf(table, p); got != want {
			t.Errorf("mountOf(%q) = %q, want %q", p, got, want)
		}
	}
}

func TestValidateID(t *testing.T) {
	for id, ok := range map[string]bool{"a": true, "A_b.c+d-1": true, "": false, ".": false, "..": false, "a/b": false, "-a": false, "a b": false, strings.Repeat("a", 256): false} {
		if got := ValidateID(id) == nil; got != ok {
			t.Errorf("ValidateID(%q) ok = %v", id, got)
		}
	}
}
