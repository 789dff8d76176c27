// SPDX-License-Identifier: Apache-2.0

package container

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/knarr/knarr/engine/image"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// plain is a container as `docker run -m 64m -p … image` makes it.
func plain() Plan {
	return Plan{
		Spec:   Spec{Resources: Resources{Memory: 64 << 20, NanoCPUs: 500_000_000, PidsLimit: 100}},
		Config: image.ContainerConfig{ImageConfig: ocispec.ImageConfig{Env: []string{"A=1"}, WorkingDir: "/"}},
		Args:   []string{"/bin/web", "-v"}, User: specs.User{}, Home: "/root", Hostname: "0123456789ab", Rootfs: "/run/x/rootfs",
		Files:      map[string]string{"/etc/hosts": "/var/x/hosts", "/etc/hostname": "/var/x/hostname", "/etc/resolv.conf": "/var/x/resolv.conf"},
		Namespaces: Namespaces{Net: "/run/x/netns"}, Cgroup: "/knarr/x", Bounding: knownCapabilities[:], SwapLimit: true,
		Seccomp: func(body string, caps []string) (*specs.LinuxSeccomp, error) {
			return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}, nil
		},
	}
}

func TestBundleGolden(t *testing.T) {
	privileged := plain()
	privileged.Spec = Spec{Security: Security{Privileged: true}, Terminal: true, Init: true, OpenStdin: true}
	privileged.Init = "/usr/bin/knarr-shim"
	pod := plain()
	pod.Spec = Spec{Security: Security{ReadonlyRootfs: true, NoNewPrivileges: true, CapDrop: []string{"ALL"}, Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}}}
	pod.User = specs.User{UID: 1000, GID: 2000, AdditionalGids: []uint32{2000}}
	pod.Namespaces = Namespaces{Net: "/run/s/net", UTS: "/run/s/uts", IPC: "/run/s/ipc", PID: "/proc/7/ns/pid"}
	pod.Shm = "/run/s/shm"
	pod.Mounts = []MountPoint{
		{Type: "bind", Source: "/var/lib/pod/hosts", Target: "/etc/hosts"},
		{Type: "volume", Name: "v", Source: "/var/lib/v/data", Target: "/data", ReadOnly: true},
		{Type: "bind", Source: "/mnt", Target: "/data/mnt", Propagation: "rslave"},
		{Type: "tmpfs", Target: "/tmp", Options: []string{"size=1m"}},
	}
	for name, p := range map[string]Plan{"plain": plain(), "privileged": privileged, "pod": pod} {
		spec, err := Bundle(p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.MarshalIndent(spec, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", "bundle-"+name+".json")
		if *update {
			if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) != string(got)+"\n" {
			t.Errorf("%s differs from %s (look, then run with -update):\n%s", name, file, got)
		}
	}
}

func TestBundleRules(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(p *Plan)
		holds  func(s *specs.Spec) bool
	}{
		"a user's mount replaces ours": {
			func(p *Plan) { p.Mounts = []MountPoint{{Type: "tmpfs", Target: "/dev/shm"}} },
			func(s *specs.Spec) bool { return countMounts(s, "/dev/shm") == 1 }},
		"a user's /dev replaces all below it": {
			func(p *Plan) { p.Mounts = []MountPoint{{Type: "bind", Source: "/dev", Target: "/dev"}} },
			func(s *specs.Spec) bool { return countMounts(s, "/dev") == 1 && countMounts(s, "/dev/pts") == 0 }},
		"swap is left alone where the kernel cannot limit it": {
			func(p *Plan) { p.SwapLimit = false },
			func(s *specs.Spec) bool { return s.Linux.Resources.Memory.Swap == nil }},
		"swap doubles memory": {
			func(p *Plan) {},
			func(s *specs.Spec) bool { return *s.Linux.Resources.Memory.Swap == 128<<20 }},
		"a joined UTS namespace keeps its name": {
			func(p *Plan) { p.Namespaces.UTS = "/run/uts" },
			func(s *specs.Spec) bool {
				return s.Hostname == "" && slices.Contains(s.Process.Env, "HOSTNAME=0123456789ab")
			}},
		"the host's network is no namespace": {
			func(p *Plan) { p.Namespaces.Net = hostNamespace },
			func(s *specs.Spec) bool {
				return !slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
			}},
		"unconfined has no filter": {
			func(p *Plan) { p.Spec.Security.Seccomp = "unconfined" },
			func(s *specs.Spec) bool { return s.Linux.Seccomp == nil }},
		"no masked paths on request": {
			func(p *Plan) { p.Spec.Security.MaskedPaths = []string{} },
			func(s *specs.Spec) bool { return len(s.Linux.MaskedPaths) == 0 && len(s.Linux.ReadonlyPaths) > 0 }},
		"inheritable and ambient sets are empty": {
			func(p *Plan) { p.Spec.Security.CapAdd = []string{"ALL"} },
			func(s *specs.Spec) bool {
				c := s.Process.Capabilities
				return len(c.Inheritable) == 0 && len(c.Ambient) == 0 && len(c.Effective) == len(knownCapabilities)
			}},
		"an image's label steers nothing": {
			func(p *Plan) { p.Config.Labels = map[string]string{"run.oci.handler": "x", "io.x": "y"} },
			func(s *specs.Spec) bool { return len(s.Annotations) == 0 && s.Hooks == nil }},
	} {
		p := plain()
		tc.change(&p)
		s, err := Bundle(p)
		if err != nil || !tc.holds(s) {
			t.Errorf("%s: does not hold (%v)", name, err)
		}
	}
	bad := plain()
	bad.Spec.Security.CapAdd = []string{"NONSENSE"}
	if _, err := Bundle(bad); err == nil || !strings.Contains(err.Error(), "NONSENSE") {
		t.Errorf("an unknown capability: %v", err)
	}
}

func countMounts(s *specs.Spec, target string) int {
	n := 0
	for _, m := range s.Mounts {
		if m.Destination == target {
			n++
		}
	}
	return n
}
