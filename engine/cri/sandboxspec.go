// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"net/netip"
	"path"
	"strings"

	pb "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/internal/errs"
)

// sandboxSpec translates a pod's config; id and network are the caller's choice.
func sandboxSpec(id, network string, c *pb.PodSandboxConfig) (container.SandboxSpec, error) {
	out := container.SandboxSpec{ID: id, Hostname: c.GetHostname(), Network: network}
	if m := c.GetMetadata(); m.GetName() == "" || m.GetUid() == "" || m.GetNamespace() == "" {
		return out, errs.New(errs.Invalid, "sandbox config: metadata needs a name, a namespace and a uid")
	}
	linux := c.GetLinux()
	if err := sandboxSecurity(linux.GetSecurityContext(), &out); err != nil {
		return out, err
	}
	out.Sysctls = linux.GetSysctls()
	if err := sandboxGroup(linux, &out); err != nil {
		return out, err
	}
	dns := c.GetDnsConfig()
	out.DNS, out.DNSSearch, out.DNSOptions = dns.GetServers(), dns.GetSearches(), dns.GetOptions()
	for _, p := range c.GetPortMappings() {
		if p.GetHostPort() == 0 || out.HostNetwork {
			continue // the port is what it is: nothing to map
		}
		port, err := portOf(p)
		if err != nil {
			return out, err
		}
		out.Ports = append(out.Ports, port)
	}
	kept, err := keep(c)
	out.Request = kept
	return out, err
}

func sandboxSecurity(sc *pb.LinuxSandboxSecurityContext, out *container.SandboxSpec) error {
	//lint:ignore SA1019 older kubelets say it there
	if _, err := seccompOf(sc.GetSeccomp(), sc.GetSeccompProfilePath(), readProfile); err != nil {
		return err // there is no process of the sandbox's own to confine, but a wrong profile is a wrong pod
	}
	if err := noLabels(sc.GetApparmor(), "", sc.GetSelinuxOptions()); err != nil {
		return err
	}
	ns := sc.GetNamespaceOptions()
	if err := noUserNamespace(ns); err != nil {
		return err
	}
	for what, mode := range map[string]pb.NamespaceMode{"network": ns.GetNetwork(), "ipc": ns.GetIpc()} {
		if mode != pb.NamespaceMode_POD && mode != pb.NamespaceMode_NODE {
			return errs.New(errs.Invalid, "%s namespace mode %s: a pod's is POD or NODE", what, mode)
		}
	}
	out.HostNetwork, out.HostIPC = ns.GetNetwork() == pb.NamespaceMode_NODE, ns.GetIpc() == pb.NamespaceMode_NODE
	switch ns.GetPid() {
	case pb.NamespaceMode_NODE:
		out.HostPID = true
	case pb.NamespaceMode_POD:
		out.SharePID = true
	case pb.NamespaceMode_CONTAINER:
	default:
		return errs.New(errs.Invalid, "pid namespace mode %s: a pod's is POD, CONTAINER or NODE", ns.GetPid())
	}
	return nil
}

func noUserNamespace(ns *pb.NamespaceOption) error {
	if u := ns.GetUsernsOptions(); u != nil && u.Mode != pb.NamespaceMode_NODE {
		return errs.New(errs.Unsupported, "user namespaces are not supported: set hostUsers to true")
	}
	return nil
}

// sandboxGroup: a kubelet names a group of its own, and limits that itself; without one, ours takes the limits.
func sandboxGroup(linux *pb.LinuxPodSandboxConfig, out *container.SandboxSpec) error {
	parent := linux.GetCgroupParent()
	switch {
	case parent == "":
		out.Resources = resourcesOf(linux.GetResources())
		return nil
	case strings.HasSuffix(parent, ".slice"):
		return errs.New(errs.Invalid, "cgroup_parent %q is systemd's; this runtime's cgroup driver is cgroupfs", parent)
	}
	if out.CgroupOutside = path.Clean("/" + parent); out.CgroupOutside == "/" {
		out.CgroupOutside = ""
	}
	return nil
}

func portOf(p *pb.PortMapping) (container.Port, error) {
	out := container.Port{Protocol: strings.ToLower(p.GetProtocol().String())}
	for what, n := range map[string]int32{"container_port": p.GetContainerPort(), "host_port": p.GetHostPort()} {
		if n < 1 || n > 65535 {
			return out, errs.New(errs.Invalid, "port mapping: %s %d is not between 1 and 65535", what, n)
		}
	}
	out.ContainerPort, out.HostPort = uint16(p.GetContainerPort()), uint16(p.GetHostPort())
	if ip := p.GetHostIp(); ip != "" {
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			return out, errs.New(errs.Invalid, "port mapping: host_ip %q is not an address", ip)
		}
		out.HostIP = addr
	}
	return out, nil
}
