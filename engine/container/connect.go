// SPDX-License-Identifier: Apache-2.0

package container

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/network"
	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
)

// DefaultNetwork is the network of containers that name none.
const DefaultNetwork = "bridge"

func (e *Engine) ensureNetworks(ctx context.Context) error {
	return e.cfg.Networks.EnsureDefaults(ctx)
}

// place is where a run is put: its namespaces, its addresses and the files that tell its programs about them.
type place struct {
	namespaces Namespaces
	netns      string // "" with the host's network
	endpoints  map[string]Endpoint
	hostname   string
	files      map[string]string // path in the container -> host file
	shm        string
	env        []string // what links add to the environment
}

// connect makes or finds the namespaces of a run and writes its network files.
func (e *Engine) connect(ctx context.Context, c *entry, rec record) (place, error) {
	if rec.Spec.Sandbox != "" {
		return e.joinSandbox(ctx, rec)
	}
	p := place{hostname: cmp.Or(rec.Spec.Hostname, c.short())}
	if rec.Spec.UTSMode == "host" || rec.Spec.Network.Mode == "host" && rec.Spec.Hostname == "" {
		p.hostname, _ = os.Hostname()
	}
	if rec.Spec.UTSMode == "host" {
		p.namespaces.UTS = hostNamespace
	}
	if rec.Spec.CgroupnsMode == "host" {
		p.namespaces.Cgroup = hostNamespace
	}
	if err := e.joinPid(rec.Spec.PidMode, &p); err != nil {
		return p, err
	}
	if err := e.joinIPC(c, rec.Spec, &p); err != nil {
		return p, err
	}
	if err := e.joinNetwork(ctx, c, rec, &p); err != nil {
		return p, err
	}
	if _, other, ok := strings.Cut(rec.Spec.Network.Mode, "container:"); ok {
		return p, e.shareFiles(other, &p)
	}
	return p, e.writeNetFiles(c, rec, &p)
}

// other finds a running container whose namespace is to be joined.
func (e *Engine) other(ref string) (*entry, int, error) {
	o, err := e.find(ref)
	if err != nil {
		return nil, 0, err
	}
	st := o.status()
	if !st.running() {
		return nil, 0, errs.New(errs.Conflict, "cannot join namespace of a non running container: container %s is %s", o.id, st.State)
	}
	return o, st.Pid, nil
}

func (e *Engine) joinPid(mode string, p *place) error {
	switch ref, isOther := strings.CutPrefix(mode, "container:"); {
	case mode == "host":
		p.namespaces.PID = hostNamespace
	case mode == "private": // in a sandbox that shares one
		p.namespaces.PID = ""
	case isOther:
		_, pid, err := e.other(ref)
		if err != nil {
			return err
		}
		p.namespaces.PID = nsPath(pid, "pid")
	}
	return nil
}

func nsPath(pid int, kind string) string { return "/proc/" + strconv.Itoa(pid) + "/ns/" + kind }

func (e *Engine) joinIPC(c *entry, s Spec, p *place) error {
	switch ref, isOther := strings.CutPrefix(s.IpcMode, "container:"); {
	case s.IpcMode == "host":
		p.namespaces.IPC, p.shm = hostNamespace, "/dev/shm"
	case s.IpcMode == "shareable":
		p.shm = c.shm()
		return mountShm(p.shm, s.ShmSize)
	case isOther:
		o, pid, err := e.other(ref)
		if err != nil {
			return err
		}
		if !exists(o.shm()) {
			return errs.New(errs.Conflict, "can't join IPC of container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", o.id)
		}
		p.namespaces.IPC, p.shm = nsPath(pid, "ipc"), o.shm()
	}
	return nil
}

func mountShm(dir string, size int64) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	options := "mode=1777,size=" + strconv.FormatInt(cmp.Or(size, defaultShmSize), 10)
	if err := unix.Mount("shm", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("mount shared memory on %s: %w", dir, err)
	}
	return nil
}

func (e *Engine) joinNetwork(ctx context.Context, c *entry, rec record, p *place) error {
	mode := rec.Spec.Network.Mode
	if ref, isOther := strings.CutPrefix(mode, "container:"); isOther {
		o, pid, err := e.other(ref)
		if err != nil {
			return err
		}
		p.namespaces.Net = nsPath(pid, "net")
		p.netns = o.status().Netns
		if p.netns == "" {
			p.namespaces.Net = hostNamespace
		}
		return nil
	}
	if mode == "host" {
		p.namespaces.Net = hostNamespace
		return nil
	}
	p.netns, p.namespaces.Net = c.netns(), c.netns()
	if err := e.cfg.Networks.NewNamespace(ctx, p.netns); err != nil {
		return err
	}
	p.endpoints = map[string]Endpoint{}
	if mode != "none" {
		if err := e.attach(ctx, c, rec, mainNetwork(rec), rec.Spec.Network, p.endpoints); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rec.Networks)) {
		if err := e.attach(ctx, c, rec, name, rec.Networks[name], p.endpoints); err != nil {
			return err
		}
	}
	return nil
}

// attach puts the container on one network and notes the endpoint. Ports are published on the first that is not internal.
func (e *Engine) attach(ctx context.Context, c *entry, rec record, name string, n NetworkSpec, endpoints map[string]Endpoint) error {
	joined, err := e.cfg.Networks.Get(name)
	if err != nil {
		return err
	}
	a := network.Attachment{Network: joined.ID, Sandbox: c.id, NetnsPath: c.netns(), IP: n.IP, IP6: n.IP6, GatewayPriority: n.GatewayPriority}
	if n.MAC != "" {
		if a.MAC, err = parseMAC(n.MAC); err != nil {
			return err
		}
	}
	if joined.Name != DefaultNetwork {
		a.Links = e.linkedSandboxes(n.Links)
	}
	a.Aliases = append([]string{rec.Spec.Name, c.short()}, n.Aliases...)
	for _, s := range rec.Spec.Network.DNS {
		if addr, err := netip.ParseAddr(s); err == nil {
			a.NameServers = append(a.NameServers, addr)
		}
	}
	published := false
	for _, ep := range endpoints {
		published = published || len(ep.Ports) > 0
	}
	if !published && !joined.Internal {
		a.Ports = wantedPorts(rec)
	}
	ep, err := e.cfg.Networks.Attach(ctx, a)
	if err != nil {
		return err
	}
	v := endpointView(ep)
	if ep.IP6.IsValid() {
		v.IP6, v.PrefixLen6, v.Gateway6 = ep.IP6, joined.Subnet6.Bits(), joined.Gateway6
	}
	endpoints[ep.Network] = v
	return nil
}

func parseMAC(s string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		return nil, errs.New(errs.Invalid, "invalid MAC address: %s", s)
	}
	return mac, nil
}

// wantedPorts are the ports to publish: those asked for and, with PublishAll, every exposed one besides.
func wantedPorts(rec record) []network.Port {
	var out []network.Port
	have := map[string]bool{}
	for _, p := range rec.Spec.Network.Ports {
		proto := cmp.Or(p.Protocol, "tcp")
		have[strconv.Itoa(int(p.ContainerPort))+"/"+proto] = true
		out = append(out, network.Port{HostIP: p.HostIP, HostPort: p.HostPort, HostPortEnd: p.HostPortEnd, ContainerPort: p.ContainerPort, Protocol: proto})
	}
	if !rec.Spec.Network.PublishAll {
		return out
	}
	for _, exposed := range slices.Sorted(maps.Keys(rec.Config.ExposedPorts)) {
		port, proto, _ := strings.Cut(exposed, "/")
		n, err := strconv.ParseUint(port, 10, 16)
		proto = cmp.Or(proto, "tcp")
		if err != nil || n == 0 || have[port+"/"+proto] || proto != "tcp" && proto != "udp" {
			continue // an image may say anything
		}
		out = append(out, network.Port{ContainerPort: uint16(n), Protocol: proto})
	}
	return out
}

func endpointView(ep network.Endpoint) Endpoint {
	v := Endpoint{Network: ep.Network, NetworkID: ep.NetworkID, IP: ep.IP, PrefixLen: ep.PrefixLen, Gateway: ep.Gateway, MAC: ep.MAC.String(), Aliases: ep.Aliases, NameServer: ep.NameServer}
	for _, p := range ep.Ports {
		v.Ports = append(v.Ports, Port{HostIP: p.HostIP, HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: p.Protocol})
	}
	return v
}

// writeNetFiles writes hosts, hostname and resolv.conf into the container's folder.
func (e *Engine) writeNetFiles(c *entry, rec record, p *place) error {
	hosts, env, err := e.legacyLinksOn(rec, p)
	if err != nil {
		return err
	}
	p.env = env
	n := e.netFilesOf(rec, p)
	n.linked = hosts
	return e.writeFiles(c.dir, p, n)
}

func (e *Engine) legacyLinksOn(rec record, p *place) (hosts, env []string, err error) {
	if !hasKey(p.endpoints, DefaultNetwork) || mainNetwork(rec) != DefaultNetwork {
		return nil, nil, nil
	}
	return e.legacyLinks(rec)
}

// netFilesOf says what a container's network files tell, but for its links.
func (e *Engine) netFilesOf(rec record, p *place) netFiles {
	n := rec.Spec.Network
	var addresses []netip.Addr
	var gateway netip.Addr
	for _, name := range slices.Sorted(maps.Keys(p.endpoints)) {
		ep := p.endpoints[name]
		if !gateway.IsValid() {
			gateway = ep.Gateway
		}
		for _, a := range []netip.Addr{ep.IP, ep.IP6} {
			if a.IsValid() {
				addresses = append(addresses, a)
			}
		}
	}
	dns := resolvers{servers: n.DNS, search: n.DNSSearch, options: n.DNSOptions}
	for _, name := range slices.Sorted(maps.Keys(p.endpoints)) {
		// One server knows the names of all the container's networks, and asks n.DNS for what it does not know.
		if s := p.endpoints[name].NameServer; s.IsValid() {
			dns.servers = []string{s.String()}
			break
		}
	}
	return netFiles{hostname: p.hostname, domain: rec.Spec.Domainname, addresses: addresses, gateway: gateway,
		hosts: n.ExtraHosts, dns: dns, hostNet: p.namespaces.Net == hostNamespace}
}

// netFiles is what /etc/hosts, /etc/hostname and /etc/resolv.conf say.
type netFiles struct {
	hostname, domain string
	addresses        []netip.Addr
	gateway          netip.Addr
	hosts            []string // as Spec.Network.ExtraHosts
	linked           []string // further lines
	dns              resolvers
	hostNet          bool
}

func (e *Engine) writeFiles(dir string, p *place, n netFiles) error {
	p.files = map[string]string{}
	for name, content := range e.contents(n) {
		path := filepath.Join(dir, name)
		if err := atomicfile.WriteVolatile(path, content, 0o644); err != nil {
			return err
		}
		p.files["/etc/"+name] = path
	}
	return nil
}

// contents of the files, by name.
func (e *Engine) contents(n netFiles) map[string][]byte {
	base := resolvers{servers: e.cfg.DNS}
	if host, err := os.ReadFile("/etc/resolv.conf"); err == nil {
		base = parseResolvConf(string(host))
		if !n.hostNet {
			base = base.withoutLoopback()
		}
		base = base.over(e.cfg.DNS, nil, nil)
	}
	hosts := hostsFile(n.addresses, n.hostname, n.domain, n.hosts, n.gateway)
	for _, line := range n.linked {
		hosts = append(hosts, line+"\n"...)
	}
	return map[string][]byte{
		"hosts":       hosts,
		"hostname":    []byte(n.hostname + "\n"),
		"resolv.conf": base.over(n.dns.servers, n.dns.search, n.dns.options).file(),
	}
}

// rewriteFiles tells a container that runs of the networks it joined or left. Its files are mounted, so they stay the same
// files; what its programs have written into them stays too: only lines that were ours go and come.
func (e *Engine) rewriteFiles(c *entry, rec record, before, after map[string]Endpoint) error {
	p := place{hostname: cmp.Or(rec.Spec.Hostname, c.short()), endpoints: before}
	if rec.Spec.UTSMode == "host" {
		p.hostname, _ = os.Hostname()
	}
	old := e.contents(e.netFilesOf(rec, &p))
	p.endpoints = after
	for name, content := range e.contents(e.netFilesOf(rec, &p)) {
		path := c.file(name)
		have, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := overwrite(path, mergeLines(have, old[name], content)); err != nil {
			return fmt.Errorf("tell container %s of its networks: %w", c.id, err)
		}
	}
	return nil
}

// overwrite changes what is in a file, which a rename would replace.
func overwrite(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(content, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(content)))
}

// shareFiles gives a container in another's network namespace the other's files.
func (e *Engine) shareFiles(ref string, p *place) error {
	o, err := e.find(ref)
	if err != nil {
		return err
	}
	p.files = map[string]string{}
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		if path := o.file(name); exists(path) {
			p.files["/etc/"+name] = path
		}
	}
	return nil
}
