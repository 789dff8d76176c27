// SPDX-License-Identifier: Apache-2.0

package container

import (
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/knarr/knarr/engine/image"
)

// Plan is what Bundle makes a runtime spec from: a container's merged config and what was found out about it and the
// machine. All paths are the host's unless said otherwise.
type Plan struct {
	Spec   Spec
	Config image.ContainerConfig // merged
	Args   []string
	User   specs.User // looked up
	Home   string

	Hostname string // of the process's own UTS namespace; also in its environment
	Rootfs   string
	Mounts   []MountPoint
	Files    map[string]string // path in the container -> file to mount there (/etc/hosts …)
	Init     string            // program to run as PID 1 before Args; "" for none

	Namespaces Namespaces
	Cgroup     string
	Shm        string // folder to mount at /dev/shm; "" for a tmpfs of its own

	Bounding   []string // capabilities that this process may pass on
	Devices    []specs.LinuxDevice
	DeviceRule []specs.LinuxDeviceCgroup // for Devices; privileged containers have all
	SwapLimit  bool                      // the kernel can limit swap
	BlockIO    *specs.LinuxBlockIO
	Seccomp    func(body string, caps []string) (*specs.LinuxSeccomp, error)
}

// Namespaces are paths of namespaces to join; "" is a new one, hostNamespace the host's.
type Namespaces struct{ Net, IPC, UTS, PID, Cgroup string }

const hostNamespace = "host"

// initPath is where a container with Spec.Init finds the init.
const initPath = "/sbin/docker-init"

// Bundle decides the OCI runtime spec of a container. It looks at nothing but its argument.
func Bundle(p Plan) (*specs.Spec, error) {
	caps, err := capabilities(p.Spec.Security, p.Bounding)
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:     specs.Version,
		Root:        &specs.Root{Path: p.Rootfs, Readonly: p.Spec.Security.ReadonlyRootfs},
		Hostname:    p.hostnameToSet(),
		Domainname:  p.Spec.Domainname,
		Annotations: maps.Clone(p.Spec.Annotations),
		Process: &specs.Process{
			Terminal:        p.Spec.Terminal,
			User:            p.User,
			Args:            p.args(),
			Env:             processEnv(p.Config.Env, p.Hostname, p.Home, p.Spec.Terminal),
			Cwd:             p.Config.WorkingDir,
			Capabilities:    processCapabilities(caps, p.User),
			NoNewPrivileges: p.Spec.Security.NoNewPrivileges,
			Rlimits:         p.Spec.Resources.Ulimits,
			OOMScoreAdj:     p.Spec.Resources.OOMScoreAdj,
		},
		Linux: &specs.Linux{
			Namespaces:        p.Namespaces.spec(),
			CgroupsPath:       p.Cgroup,
			Sysctl:            maps.Clone(p.Spec.Security.Sysctls),
			Devices:           p.Devices,
			RootfsPropagation: rootPropagation(p.Mounts),
		},
	}
	s.Linux.Resources = linuxResources(p.Spec.Resources, p.SwapLimit)
	s.Linux.Resources.BlockIO = p.BlockIO
	s.Linux.Resources.Devices = deviceRules(p)
	if !p.Spec.Security.Privileged {
		s.Linux.MaskedPaths = orDefault(p.Spec.Security.MaskedPaths, defaultMasked[:])
		s.Linux.ReadonlyPaths = orDefault(p.Spec.Security.ReadonlyPaths, defaultReadonly[:])
	}
	if s.Linux.Seccomp, err = p.seccomp(caps); err != nil {
		return nil, err
	}
	s.Mounts = p.mounts()
	return s, nil
}

func (p Plan) args() []string {
	if p.Init == "" {
		return p.Args
	}
	return append([]string{initPath, "pid1"}, p.Args...)
}

// hostnameToSet is empty where the UTS namespace is somebody else's.
func (p Plan) hostnameToSet() string {
	if p.Namespaces.UTS != "" {
		return ""
	}
	return p.Hostname
}

func (p Plan) seccomp(caps []string) (*specs.LinuxSeccomp, error) {
	body := p.Spec.Security.Seccomp
	if body == "unconfined" || p.Spec.Security.Privileged && body == "" {
		return nil, nil
	}
	return p.Seccomp(body, caps)
}

func (n Namespaces) spec() []specs.LinuxNamespace {
	out := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	for _, ns := range []struct {
		kind specs.LinuxNamespaceType
		path string
	}{
		{specs.NetworkNamespace, n.Net},
		{specs.UTSNamespace, n.UTS},
		{specs.IPCNamespace, n.IPC},
		{specs.PIDNamespace, n.PID},
		{specs.CgroupNamespace, n.Cgroup},
	} {
		if ns.path != hostNamespace {
			out = append(out, specs.LinuxNamespace{Type: ns.kind, Path: ns.path})
		}
	}
	return out
}

func orDefault(given, otherwise []string) []string {
	if given != nil {
		return given
	}
	return slices.Clone(otherwise)
}

func nonZero[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// rootPropagation: a mount that shall send or receive needs a root that does so too.
func rootPropagation(mounts []MountPoint) string {
	answer := ""
	for _, m := range mounts {
		switch strings.TrimPrefix(m.Propagation, "r") {
		case "shared":
			return "shared"
		case "slave":
			answer = "rslave"
		}
	}
	return answer
}
