// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	dcontainer "github.com/moby/moby/api/types/container"
	dmount "github.com/moby/moby/api/types/mount"
	dnetwork "github.com/moby/moby/api/types/network"

	"github.com/knarr/knarr/engine/container"
)

func (s *Server) containerInspect(w http.ResponseWriter, r *http.Request) error {
	c, err := s.Containers.Get(r.PathValue("id"))
	if err != nil {
		return err
	}
	out := s.inspect(c)
	if truth(r, "size") {
		rw, root, err := s.Containers.Size(c.ID)
		if err != nil {
			return err
		}
		out.SizeRw, out.SizeRootFs = &rw, &root
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) inspect(c container.Container) dcontainer.InspectResponse {
	out := dcontainer.InspectResponse{
		ID: c.ID, Created: stamp(c.Created), Image: c.ImageID, Name: "/" + c.Spec.Name, Driver: "overlay2", Platform: "linux",
		RestartCount: c.RestartCount, LogPath: c.LogPath,
		State: &dcontainer.State{
			Status: dcontainer.ContainerState(c.State), Running: c.State == container.Running || c.State == container.Paused,
			Paused: c.State == container.Paused, Restarting: c.State == container.Restarting, Dead: c.State == container.Dead,
			OOMKilled: c.OOMKilled, Pid: c.Pid, ExitCode: c.ExitCode, Error: c.Error,
			StartedAt: stamp(c.StartedAt), FinishedAt: stamp(c.FinishedAt),
		},
		Config: s.configOf(c), HostConfig: hostConfigOf(c), Mounts: mountPoints(c), NetworkSettings: networkSettings(c),
	}
	if len(c.Args) > 0 {
		out.Path, out.Args = c.Args[0], c.Args[1:]
	}
	if len(out.Args) == 0 {
		out.Args = []string{}
	}
	dir := filepath.Dir(c.Rootfs)
	out.HostnamePath, out.HostsPath, out.ResolvConfPath = filepath.Join(dir, "hostname"), filepath.Join(dir, "hosts"), filepath.Join(dir, "resolv.conf")
	return out
}

// stamp is a time as Docker prints it; the zero time has its own form.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "0001-01-01T00:00:00Z"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// configOf is the container's configuration merged with its image's, as it took effect.
func (s *Server) configOf(c container.Container) *dcontainer.Config {
	sp := c.Spec
	out := &dcontainer.Config{
		Hostname: sp.Hostname, Domainname: sp.Domainname, User: sp.User, Tty: sp.Terminal, OpenStdin: sp.OpenStdin, StdinOnce: sp.StdinOnce,
		AttachStdin: sp.StdinOnce, AttachStdout: true, AttachStderr: true,
		Env: sp.Env, Cmd: sp.Cmd, Entrypoint: sp.Entrypoint, Image: c.ImageRef, WorkingDir: sp.Dir, Labels: sp.Labels, StopSignal: sp.StopSignal,
	}
	if out.Hostname == "" && len(c.ID) >= 12 {
		out.Hostname = c.ID[:12]
	}
	if sp.StopGrace != nil {
		n := int(sp.StopGrace.Seconds())
		out.StopTimeout = &n
	}
	if img, err := s.Images.Get(c.ImageID); err == nil {
		ic := img.Config.Config
		if out.Entrypoint == nil {
			out.Entrypoint = ic.Entrypoint
			if out.Cmd == nil {
				out.Cmd = ic.Cmd
			}
		}
		out.User, out.WorkingDir = first(out.User, ic.User), first(out.WorkingDir, ic.WorkingDir)
		out.StopSignal, out.Volumes = first(out.StopSignal, ic.StopSignal), ic.Volumes
		out.Env = mergeEnv(ic.Env, sp.Env)
		out.Labels = map[string]string{}
		for k, v := range ic.Labels {
			out.Labels[k] = v
		}
		for k, v := range sp.Labels {
			out.Labels[k] = v
		}
		out.ExposedPorts = dnetwork.PortSet{}
		for e := range ic.ExposedPorts {
			if p, err := dnetwork.ParsePort(e); err == nil {
				out.ExposedPorts[p] = struct{}{}
			}
		}
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	return out
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// mergeEnv is base with the entries of over replacing those of the same name.
func mergeEnv(base, over []string) []string {
	out := slices.Clone(base)
	for _, kv := range over {
		k, _, _ := strings.Cut(kv, "=")
		i := slices.IndexFunc(out, func(have string) bool { h, _, _ := strings.Cut(have, "="); return h == k })
		if i < 0 {
			out = append(out, kv)
		} else {
			out[i] = kv
		}
	}
	return out
}

func hostConfigOf(c container.Container) *dcontainer.HostConfig {
	sp, rs := c.Spec, c.Spec.Resources
	h := &dcontainer.HostConfig{
		NetworkMode: dcontainer.NetworkMode(sp.Network.Mode), AutoRemove: sp.AutoRemove, Privileged: sp.Security.Privileged,
		RestartPolicy: dcontainer.RestartPolicy{Name: dcontainer.RestartPolicyMode(sp.Restart.Name), MaximumRetryCount: sp.Restart.MaxRetries},
		LogConfig:     dcontainer.LogConfig{Type: "json-file", Config: map[string]string{}},
		CapAdd:        sp.Security.CapAdd, CapDrop: sp.Security.CapDrop, ReadonlyRootfs: sp.Security.ReadonlyRootfs, Sysctls: sp.Security.Sysctls,
		PidMode: dcontainer.PidMode(sp.PidMode), IpcMode: dcontainer.IpcMode(sp.IpcMode), UTSMode: dcontainer.UTSMode(sp.UTSMode),
		CgroupnsMode: dcontainer.CgroupnsMode(sp.CgroupnsMode), UsernsMode: dcontainer.UsernsMode(sp.UsernsMode),
		DNSSearch: sp.Network.DNSSearch, DNSOptions: sp.Network.DNSOptions, ExtraHosts: sp.Network.ExtraHosts, GroupAdd: sp.Groups,
		Tmpfs: sp.Tmpfs, ShmSize: sp.ShmSize, Annotations: sp.Annotations,
		PortBindings: dnetwork.PortMap{}, MaskedPaths: sp.Security.MaskedPaths, ReadonlyPaths: sp.Security.ReadonlyPaths,
		Resources: dcontainer.Resources{
			CPUShares: int64(rs.CPUShares), CPUPeriod: int64(rs.CPUPeriod), CPUQuota: rs.CPUQuota, NanoCPUs: rs.NanoCPUs,
			CpusetCpus: rs.CpusetCpus, CpusetMems: rs.CpusetMems, Memory: rs.Memory, MemorySwap: rs.MemorySwap,
			MemoryReservation: rs.MemoryReservation, BlkioWeight: rs.BlkioWeight, CgroupParent: sp.CgroupParent,
		},
	}
	if h.ShmSize == 0 {
		h.ShmSize = 64 << 20
	}
	if rs.PidsLimit > 0 {
		h.PidsLimit = &rs.PidsLimit
	}
	if rs.OOMScoreAdj != nil {
		h.OomScoreAdj = *rs.OOMScoreAdj
	}
	if sp.Init {
		h.Init = &sp.Init
	}
	for _, d := range sp.Network.DNS {
		if a, err := netip.ParseAddr(d); err == nil {
			h.DNS = append(h.DNS, a)
		}
	}
	for _, u := range rs.Ulimits {
		h.Ulimits = append(h.Ulimits, &units.Ulimit{Name: strings.ToLower(strings.TrimPrefix(u.Type, "RLIMIT_")), Soft: int64(u.Soft), Hard: int64(u.Hard)})
	}
	for _, d := range rs.Devices {
		h.Devices = append(h.Devices, dcontainer.DeviceMapping{PathOnHost: d.HostPath, PathInContainer: d.ContainerPath, CgroupPermissions: d.Permissions})
	}
	if sp.Security.NoNewPrivileges {
		h.SecurityOpt = append(h.SecurityOpt, "no-new-privileges")
	}
	for _, p := range sp.Network.Ports {
		addBinding(h.PortBindings, p, p.HostPort != 0)
	}
	for _, m := range sp.Mounts {
		if m.Type == "tmpfs" || m.Source == "" {
			continue
		}
		b := m.Source + ":" + m.Target
		if m.ReadOnly {
			b += ":ro"
		}
		h.Binds = append(h.Binds, b)
	}
	return h
}

func addBinding(to dnetwork.PortMap, p container.Port, withPort bool) {
	key, ok := dnetwork.PortFrom(p.ContainerPort, dnetwork.IPProtocol(p.Protocol))
	if !ok {
		return
	}
	b := dnetwork.PortBinding{HostIP: p.HostIP}
	if withPort {
		b.HostPort = strconv.Itoa(int(p.HostPort))
	}
	to[key] = append(to[key], b)
}

func mountPoints(c container.Container) []dcontainer.MountPoint {
	out := []dcontainer.MountPoint{}
	for _, m := range c.MountPoints {
		p := dcontainer.MountPoint{
			Type: dmount.Type(m.Type), Name: m.Name, Source: m.Source, Destination: m.Target, RW: !m.ReadOnly,
			Propagation: dmount.Propagation(m.Propagation),
		}
		if m.Type == "volume" {
			p.Driver = "local"
		}
		if m.ReadOnly {
			p.Mode = "ro"
		}
		out = append(out, p)
	}
	return out
}

func endpointSettings(e container.Endpoint) *dnetwork.EndpointSettings {
	out := &dnetwork.EndpointSettings{
		NetworkID: e.NetworkID, Gateway: e.Gateway, IPAddress: e.IP, IPPrefixLen: e.PrefixLen, Aliases: e.Aliases,
	}
	if mac, err := net.ParseMAC(e.MAC); err == nil {
		out.MacAddress = dnetwork.HardwareAddr(mac)
	}
	return out
}

func networkSettings(c container.Container) *dcontainer.NetworkSettings {
	out := &dcontainer.NetworkSettings{Ports: dnetwork.PortMap{}, Networks: map[string]*dnetwork.EndpointSettings{}, SandboxID: c.Spec.Sandbox}
	for name, e := range c.Endpoints {
		out.Networks[name] = endpointSettings(e)
		for _, p := range e.Ports {
			addBinding(out.Ports, p, true)
		}
	}
	if len(out.Networks) == 0 && (c.Spec.Network.Mode == "host" || c.Spec.Network.Mode == "none") {
		out.Networks[c.Spec.Network.Mode] = &dnetwork.EndpointSettings{}
	}
	return out
}

// status is the human sentence of docker ps.
func status(c container.Container, now time.Time) string {
	switch c.State {
	case container.Running:
		return "Up " + units.HumanDuration(now.Sub(c.StartedAt))
	case container.Paused:
		return "Up " + units.HumanDuration(now.Sub(c.StartedAt)) + " (Paused)"
	case container.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", c.ExitCode, units.HumanDuration(now.Sub(c.FinishedAt)))
	case container.Created:
		return "Created"
	case container.Removing:
		return "Removal In Progress"
	case container.Dead:
		return "Dead"
	}
	if c.FinishedAt.IsZero() {
		return "Created"
	}
	return fmt.Sprintf("Exited (%d) %s ago", c.ExitCode, units.HumanDuration(now.Sub(c.FinishedAt)))
}
