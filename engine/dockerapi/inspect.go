// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
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
	if out.GraphDriver, err = s.graphDriver(c); err != nil {
		return err
	}
	if truth(r, "size") {
		rw, root, err := s.Containers.Size(c.ID)
		if err != nil {
			return err
		}
		out.SizeRw, out.SizeRootFs = &rw, &root
	}
	if !before(r, "1.52") {
		return writeJSON(w, http.StatusOK, newInspect{InspectResponse: out, State: s.stateView(c, out.State)})
	}
	return writeJSON(w, http.StatusOK, oldInspect{InspectResponse: out, State: s.stateView(c, out.State), NetworkSettings: oldNetworkSettings(c, out.NetworkSettings)})
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
		Config: configOf(c), HostConfig: askedHostConfig(c), Mounts: mountPoints(c), NetworkSettings: s.networkSettings(c),
	}
	if len(c.Args) > 0 {
		out.Path, out.Args = c.Args[0], c.Args[1:]
	}
	if len(out.Args) == 0 {
		out.Args = []string{}
	}
	out.ExecIDs = c.ExecIDs
	out.HostnamePath, out.HostsPath, out.ResolvConfPath = c.HostnamePath, c.HostsPath, c.ResolvConfPath
	if c.Health != nil {
		out.State.Health = &dcontainer.Health{Status: dcontainer.HealthStatus(c.Health.Status), FailingStreak: c.Health.FailingStreak}
		for _, r := range c.Health.Log {
			out.State.Health.Log = append(out.State.Health.Log, &dcontainer.HealthcheckResult{Start: r.Start, End: r.End, ExitCode: r.ExitCode, Output: r.Output})
		}
	}
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
func configOf(c container.Container) *dcontainer.Config {
	sp, ic := c.Spec, c.Config
	out := &dcontainer.Config{
		Hostname: sp.Hostname, Domainname: sp.Domainname, User: ic.User, Tty: sp.Terminal, OpenStdin: sp.OpenStdin, StdinOnce: sp.StdinOnce,
		AttachStdin: sp.StdinOnce, AttachStdout: true, AttachStderr: true,
		Env: ic.Env, Cmd: ic.Cmd, Entrypoint: ic.Entrypoint, Image: c.ImageRef, WorkingDir: ic.WorkingDir, Labels: ic.Labels,
		StopSignal: ic.StopSignal, Volumes: ic.Volumes, Shell: ic.Shell, Healthcheck: ic.Healthcheck, ExposedPorts: dnetwork.PortSet{},
	}
	for e := range ic.ExposedPorts {
		if p, err := dnetwork.ParsePort(e); err == nil {
			out.ExposedPorts[p] = struct{}{}
		}
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	if out.Hostname == "" && len(c.ID) >= 12 {
		out.Hostname = c.ID[:12]
	}
	if asked := askedConfig(c); asked != nil {
		out.AttachStdin, out.AttachStdout, out.AttachStderr = asked.AttachStdin, asked.AttachStdout, asked.AttachStderr
	}
	if sp.StopGrace != nil {
		n := int(sp.StopGrace.Seconds())
		out.StopTimeout = &n
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
		PortBindings: dnetwork.PortMap{}, PublishAllPorts: sp.Network.PublishAll, MaskedPaths: sp.Security.MaskedPaths, ReadonlyPaths: sp.Security.ReadonlyPaths,
		Resources: resourcesView(sp),
	}
	h.RestartPolicy.Name = cmp.Or(h.RestartPolicy.Name, dcontainer.RestartPolicyDisabled)
	h.IpcMode, h.CgroupnsMode = cmp.Or(h.IpcMode, dcontainer.IPCModePrivate), cmp.Or(h.CgroupnsMode, dcontainer.CgroupnsModePrivate)
	if sp.LogMaxBytes > 0 {
		h.LogConfig.Config["max-size"] = strconv.FormatInt(sp.LogMaxBytes, 10)
	}
	if sp.LogMaxFiles > 0 {
		h.LogConfig.Config["max-file"] = strconv.Itoa(sp.LogMaxFiles)
	}
	if h.ShmSize == 0 {
		h.ShmSize = 64 << 20
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
	if sp.Security.Seccomp != "" {
		h.SecurityOpt = append(h.SecurityOpt, "seccomp="+sp.Security.Seccomp)
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

// hostIP is the address a port is published on as Docker tells it: every address has one too.
func hostIP(p container.Port) netip.Addr {
	if !p.HostIP.IsValid() {
		return netip.IPv4Unspecified()
	}
	return p.HostIP
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

func endpointSettings(c container.Container, e container.Endpoint, wish container.NetworkSpec) *dnetwork.EndpointSettings {
	out := &dnetwork.EndpointSettings{
		NetworkID: e.NetworkID, Gateway: e.Gateway, IPAddress: e.IP, IPPrefixLen: e.PrefixLen, Aliases: wish.Aliases, DNSNames: e.Aliases,
		IPv6Gateway: e.Gateway6, GlobalIPv6Address: e.IP6, GlobalIPv6PrefixLen: e.PrefixLen6, Links: wish.Links, GwPriority: wish.GatewayPriority,
	}
	if e.IP.IsValid() {
		out.EndpointID = hashID("endpoint", c.ID, e.NetworkID)
	}
	if wish.IP.IsValid() || wish.IP6.IsValid() {
		out.IPAMConfig = &dnetwork.EndpointIPAMConfig{IPv4Address: wish.IP, IPv6Address: wish.IP6}
	}
	if mac, err := net.ParseMAC(e.MAC); err == nil {
		out.MacAddress = dnetwork.HardwareAddr(mac)
	}
	return out
}

func (s *Server) networkSettings(c container.Container) *dcontainer.NetworkSettings {
	out := &dcontainer.NetworkSettings{Ports: dnetwork.PortMap{}, Networks: s.endpoints(c), SandboxID: c.Spec.Sandbox, SandboxKey: c.NetnsPath}
	if out.SandboxID == "" && c.NetnsPath != "" {
		out.SandboxID = hashID("sandbox", c.ID)
	}
	if len(c.Endpoints) > 0 {
		for e := range c.Config.ExposedPorts {
			if p, err := dnetwork.ParsePort(e); err == nil {
				out.Ports[p] = nil // exposed; what is published replaces it
			}
		}
	}
	for _, e := range c.Endpoints {
		for _, p := range e.Ports {
			p.HostIP = hostIP(p)
			addBinding(out.Ports, p, true)
		}
	}
	return out
}

// endpoints are a container's places in networks: as they are while it runs, else as they will be.
func (s *Server) endpoints(c container.Container) map[string]*dnetwork.EndpointSettings {
	out := map[string]*dnetwork.EndpointSettings{}
	for name, wish := range c.Networks {
		e, there := c.Endpoints[name]
		if n, err := s.Networks.Get(name); !there && err == nil {
			name, e.NetworkID = n.Name, n.ID
			if live, ok := c.Endpoints[name]; ok { // the wish named it by ID
				e = live
			}
		}
		out[name] = endpointSettings(c, e, wish)
	}
	if c.Spec.Network.Mode == "host" {
		e := container.Endpoint{}
		if n, err := s.Networks.Get("host"); err == nil {
			e.NetworkID = n.ID
		}
		out["host"] = endpointSettings(c, e, container.NetworkSpec{})
	}
	return out
}

// status is the human sentence of docker ps.
func status(c container.Container, now time.Time) string {
	switch c.State {
	case container.Running:
		up := "Up " + units.HumanDuration(now.Sub(c.StartedAt))
		switch {
		case c.Health == nil || c.Health.Status == "none":
			return up
		case c.Health.Status == "starting":
			return up + " (health: starting)"
		}
		return up + " (" + c.Health.Status + ")"
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
