// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/spf13/pflag"
)

// containerFlags are the flags of run and create.
type containerFlags struct {
	attached bool // the caller will attach
	limitFlags
	isolationFlags
	healthFlags
	logFlags
	expose   []string
	platform string

	name, user, workdir, hostname, network, ip, ip6, mac, entrypoint, restart, pid, ipc, uts, cgroupns, stopSignal, pull, cidfile, cgroupParent                                           string
	env, envFile, volumes, mounts, ports, labels, capAdd, capDrop, devices, dns, dnsSearch, dnsOption, addHost, groupAdd, securityOpt, sysctl, tmpfs, ulimit, aliases, links, volumesFrom []string
	interactive, tty, rm, privileged, readOnly, publishAll, init                                                                                                                          bool
	shmSize                                                                                                                                                                               string
	stopTimeout, oomScoreAdj                                                                                                                                                              int
}

func (c *containerFlags) add(f *pflag.FlagSet) {
	f.SetInterspersed(false) // what follows the image is the container's
	f.BoolVarP(&c.interactive, "interactive", "i", false, "keep stdin open")
	f.BoolVarP(&c.tty, "tty", "t", false, "give it a terminal")
	f.BoolVar(&c.rm, "rm", false, "remove the container when it exits")
	f.StringVar(&c.name, "name", "", "its name")
	f.StringArrayVarP(&c.env, "env", "e", nil, "environment: KEY=VALUE, or KEY for this shell's value")
	f.StringArrayVar(&c.envFile, "env-file", nil, "file of environment lines")
	f.StringArrayVarP(&c.volumes, "volume", "v", nil, "[HOST PATH or VOLUME:]PATH[:ro]")
	f.StringArrayVar(&c.mounts, "mount", nil, "type=bind|volume|tmpfs|image,source=…,target=…[,readonly]")
	f.StringArrayVar(&c.volumesFrom, "volumes-from", nil, "mount what another container mounts")
	f.StringArrayVar(&c.tmpfs, "tmpfs", nil, "PATH[:OPTIONS]")
	f.StringArrayVarP(&c.ports, "publish", "p", nil, "[[ADDRESS:]HOST PORT:]PORT[/udp]")
	f.BoolVarP(&c.publishAll, "publish-all", "P", false, "publish all exposed ports on free host ports")
	f.StringVarP(&c.workdir, "workdir", "w", "", "working directory")
	f.StringVarP(&c.user, "user", "u", "", "USER[:GROUP]")
	f.StringArrayVar(&c.groupAdd, "group-add", nil, "further groups")
	f.StringVarP(&c.hostname, "hostname", "h", "", "host name")
	f.Bool("help", false, "show this text") // without it cobra wants -h for help
	f.StringArrayVarP(&c.labels, "label", "l", nil, "KEY=VALUE")
	f.StringVar(&c.entrypoint, "entrypoint", "", "instead of the image's")
	f.StringVar(&c.network, "network", "", "none, bridge, host, container:NAME, or a network")
	f.StringVar(&c.network, "net", "", "same as --network")
	f.Lookup("net").Hidden = true
	f.StringVar(&c.ip, "ip", "", "address on the network")
	f.StringVar(&c.ip6, "ip6", "", "IPv6 address on the network")
	f.StringVar(&c.mac, "mac-address", "", "MAC address on the network")
	f.StringArrayVar(&c.links, "link", nil, "CONTAINER[:ALIAS]: another container by a name that only this one uses")
	f.StringArrayVar(&c.aliases, "network-alias", nil, "further name on the network")
	f.StringArrayVar(&c.dns, "dns", nil, "name server")
	f.StringArrayVar(&c.dnsSearch, "dns-search", nil, "search domain")
	f.StringArrayVar(&c.dnsOption, "dns-option", nil, "resolver option")
	f.StringArrayVar(&c.addHost, "add-host", nil, "HOST:ADDRESS for /etc/hosts")
	c.limitFlags.add(f)
	c.isolationFlags.add(f)
	f.StringArrayVar(&c.ulimit, "ulimit", nil, "NAME=SOFT[:HARD]")
	f.IntVar(&c.oomScoreAdj, "oom-score-adj", 0, "-1000 to 1000")
	f.StringVar(&c.shmSize, "shm-size", "", "size of /dev/shm")
	f.StringVar(&c.cgroupParent, "cgroup-parent", "", "parent cgroup")
	f.BoolVar(&c.privileged, "privileged", false, "all capabilities and devices")
	f.StringArrayVar(&c.capAdd, "cap-add", nil, "capability to add")
	f.StringArrayVar(&c.capDrop, "cap-drop", nil, "capability to drop")
	f.StringArrayVar(&c.devices, "device", nil, "HOST[:CONTAINER[:rwm]]")
	f.StringArrayVar(&c.securityOpt, "security-opt", nil, "no-new-privileges, seccomp=FILE|unconfined|builtin, systempaths=unconfined")
	f.StringArrayVar(&c.sysctl, "sysctl", nil, "KEY=VALUE")
	f.BoolVar(&c.readOnly, "read-only", false, "read-only root file system")
	f.BoolVar(&c.init, "init", false, "run a small init as PID 1")
	f.StringVar(&c.restart, "restart", "no", "no, on-failure[:MAX], always, unless-stopped")
	f.StringArrayVar(&c.expose, "expose", nil, "port to expose without publishing it: PORT[/udp]")
	f.StringVar(&c.platform, "platform", "", "of the image, like linux/arm64")
	f.StringVar(&c.logDriver, "log-driver", "", "json-file is the only one")
	f.StringArrayVar(&c.logOpt, "log-opt", nil, "max-size=10m, max-file=3")
	f.StringVar(&c.healthCmd, "health-cmd", "", "command that says whether the container is well")
	f.DurationVar(&c.healthInterval, "health-interval", 0, "time between checks (30s)")
	f.DurationVar(&c.healthTimeout, "health-timeout", 0, "time a check may take (30s)")
	f.DurationVar(&c.healthStart, "health-start-period", 0, "time to start in which failures do not count")
	f.IntVar(&c.healthRetries, "health-retries", 0, "failures that make it unhealthy (3)")
	f.BoolVar(&c.noHealth, "no-healthcheck", false, "not even the image's check")
	f.StringVar(&c.stopSignal, "stop-signal", "", "signal that stops it")
	f.IntVar(&c.stopTimeout, "stop-timeout", -1, "seconds before it is killed")
	f.StringVar(&c.pid, "pid", "", "host or container:NAME")
	f.StringVar(&c.ipc, "ipc", "", "private, shareable, none, host or container:NAME")
	f.StringVar(&c.uts, "uts", "", "private or host")
	f.StringVar(&c.cgroupns, "cgroupns", "", "private or host")
	f.StringVar(&c.pull, "pull", "missing", "missing, always or never")
	f.StringVar(&c.cidfile, "cidfile", "", "file to write the ID to")
}

// options turns the flags, the image and the command into a request.
func (c *containerFlags) options(args []string) (client.ContainerCreateOptions, error) {
	o := client.ContainerCreateOptions{
		Name: c.name,
		Config: &container.Config{
			Image: args[0], Cmd: args[1:], User: c.user, WorkingDir: c.workdir, Hostname: c.hostname, Tty: c.tty, OpenStdin: c.interactive,
			StdinOnce: c.interactive && c.attached, AttachStdin: c.interactive && c.attached, AttachStdout: c.attached, AttachStderr: c.attached,
			StopSignal: c.stopSignal,
		},
		HostConfig: &container.HostConfig{
			Binds: c.volumes, VolumesFrom: c.volumesFrom, NetworkMode: container.NetworkMode(c.network), AutoRemove: c.rm, Privileged: c.privileged, ReadonlyRootfs: c.readOnly,
			CapAdd: c.capAdd, CapDrop: c.capDrop, DNSSearch: c.dnsSearch, DNSOptions: c.dnsOption, ExtraHosts: c.addHost,
			GroupAdd: c.groupAdd, PidMode: container.PidMode(c.pid), IpcMode: container.IpcMode(c.ipc), UTSMode: container.UTSMode(c.uts),
			CgroupnsMode: container.CgroupnsMode(c.cgroupns), PublishAllPorts: c.publishAll, OomScoreAdj: c.oomScoreAdj,
			Resources: container.Resources{CgroupParent: c.cgroupParent},
		},
	}
	if len(o.Config.Cmd) == 0 {
		o.Config.Cmd = nil
	}
	if c.entrypoint != "" {
		o.Config.Entrypoint = []string{c.entrypoint}
	}
	if c.stopTimeout >= 0 {
		o.Config.StopTimeout = &c.stopTimeout
	}
	if c.init {
		o.HostConfig.Init = &c.init
	}
	for _, set := range []func(*client.ContainerCreateOptions) error{
		c.setEnv, c.setLimits, c.setIsolation, c.setSizes, c.setPorts, c.setMounts, c.setNetwork, c.setRestart, c.setSecurity, c.setDevices, c.setHealth, c.setLog, c.setPlatform, c.checkPull,
	} {
		if err := set(&o); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (c *containerFlags) setEnv(o *client.ContainerCreateOptions) error {
	lines := []string{}
	for _, path := range c.envFile {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("--env-file: %w", err)
		}
		for l := range strings.Lines(string(data)) {
			if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
				lines = append(lines, l)
			}
		}
	}
	for _, kv := range append(lines, c.env...) {
		if k, _, ok := strings.Cut(kv, "="); k == "" {
			return fmt.Errorf("--env %q: want KEY=VALUE", kv)
		} else if !ok {
			v, set := os.LookupEnv(k)
			if !set {
				continue
			}
			kv += "=" + v
		}
		o.Config.Env = append(o.Config.Env, kv)
	}
	labels, err := keyValues("--label", c.labels)
	o.Config.Labels = labels
	return err
}

func keyValues(flag string, list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, kv := range list {
		k, v, _ := strings.Cut(kv, "=")
		if k == "" {
			return nil, fmt.Errorf("%s %q: want KEY=VALUE", flag, kv)
		}
		out[k] = v
	}
	return out, nil
}

func (c *containerFlags) setSizes(o *client.ContainerCreateOptions) error {
	if c.shmSize != "" {
		v, err := size("--shm-size", c.shmSize)
		if err != nil {
			return err
		}
		o.HostConfig.ShmSize = v
	}
	for _, u := range c.ulimit {
		v, err := units.ParseUlimit(u)
		if err != nil {
			return fmt.Errorf("--ulimit %q: %w", u, err)
		}
		o.HostConfig.Ulimits = append(o.HostConfig.Ulimits, v)
	}
	return nil
}

// setPorts reads [[ADDRESS:]HOST PORT:]PORT[/PROTOCOL], where both ports may be ranges of the same length; a
// range for one port means the first of it that is free.
func (c *containerFlags) setPorts(o *client.ContainerCreateOptions) error {
	o.HostConfig.PortBindings, o.Config.ExposedPorts = network.PortMap{}, network.PortSet{}
	for _, spec := range c.ports {
		bad := fmt.Errorf("--publish %q: want [[ADDRESS:]HOST PORT:]PORT[/udp]", spec)
		rest, proto, _ := strings.Cut(spec, "/")
		if proto == "" {
			proto = "tcp"
		}
		if proto != "tcp" && proto != "udp" && proto != "sctp" {
			return bad
		}
		var host, address string
		target := rest
		if i := strings.LastIndex(rest, ":"); i >= 0 {
			target, rest = rest[i+1:], rest[:i]
			host = rest
			if i := strings.LastIndex(rest, ":"); i >= 0 {
				address, host = strings.Trim(rest[:i], "[]"), rest[i+1:]
			}
		}
		var ip netip.Addr
		if address != "" {
			var err error
			if ip, err = netip.ParseAddr(address); err != nil {
				return bad
			}
		}
		first, last, err := portRange(target)
		if err != nil {
			return bad
		}
		hostFirst, hostLast := 0, -1
		if host != "" {
			if hostFirst, hostLast, err = portRange(host); err != nil || last != first && hostLast-hostFirst != last-first {
				return bad
			}
		}
		for n := range last - first + 1 {
			p, ok := network.PortFrom(uint16(first+n), network.IPProtocol(proto))
			if !ok {
				return bad
			}
			b := network.PortBinding{HostIP: ip}
			if host != "" {
				b.HostPort = strconv.Itoa(hostFirst + n)
				if first == last && hostLast > hostFirst { // any of these
					b.HostPort = host
				}
			}
			o.HostConfig.PortBindings[p] = append(o.HostConfig.PortBindings[p], b)
			o.Config.ExposedPorts[p] = struct{}{}
		}
	}
	return nil
}

func portRange(s string) (first, last int, err error) {
	a, b, ok := strings.Cut(s, "-")
	if first, err = strconv.Atoi(a); err != nil || first < 0 || first > 65535 {
		return 0, 0, fmt.Errorf("bad port %q", a)
	}
	if !ok {
		return first, first, nil
	}
	if last, err = strconv.Atoi(b); err != nil || last < first || last > 65535 {
		return 0, 0, fmt.Errorf("bad port %q", b)
	}
	return first, last, nil
}

func (c *containerFlags) setMounts(o *client.ContainerCreateOptions) error {
	for i, v := range c.volumes { // a relative host path is relative to here, not to the daemon
		if strings.HasPrefix(v, "./") || strings.HasPrefix(v, "../") {
			dir, err := os.Getwd()
			if err != nil {
				return err
			}
			c.volumes[i] = dir + "/" + v
		}
	}
	for _, t := range c.tmpfs {
		path, opts, _ := strings.Cut(t, ":")
		if o.HostConfig.Tmpfs == nil {
			o.HostConfig.Tmpfs = map[string]string{}
		}
		o.HostConfig.Tmpfs[path] = opts
	}
	for _, text := range c.mounts {
		m, err := parseMount(text)
		if err != nil {
			return fmt.Errorf("--mount %q: %w", text, err)
		}
		o.HostConfig.Mounts = append(o.HostConfig.Mounts, m)
	}
	return nil
}

func (c *containerFlags) setNetwork(o *client.ContainerCreateOptions) error {
	for _, d := range c.dns {
		a, err := netip.ParseAddr(d)
		if err != nil {
			return fmt.Errorf("--dns %q: want an address", d)
		}
		o.HostConfig.DNS = append(o.HostConfig.DNS, a)
	}
	o.HostConfig.Links = c.links
	ep, err := endpointFlags{ip: c.ip, ip6: c.ip6, mac: c.mac, aliases: c.aliases}.settings()
	if err != nil || ep == nil {
		return err
	}
	name := cmp.Or(c.network, "bridge")
	o.NetworkingConfig = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{name: ep}}
	return nil
}

func (c *containerFlags) setRestart(o *client.ContainerCreateOptions) error {
	name, bound, ok := strings.Cut(c.restart, ":")
	o.HostConfig.RestartPolicy.Name = container.RestartPolicyMode(name)
	if ok {
		n, err := strconv.Atoi(bound)
		if err != nil {
			return fmt.Errorf("--restart %q: want on-failure:NUMBER", c.restart)
		}
		o.HostConfig.RestartPolicy.MaximumRetryCount = n
	}
	return nil
}

func (c *containerFlags) setSecurity(o *client.ContainerCreateOptions) error {
	for _, s := range c.securityOpt {
		if path, ok := strings.CutPrefix(s, "seccomp="); ok && path != "unconfined" && path != "builtin" {
			data, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("--security-opt %q: %w", s, err)
			}
			s = "seccomp=" + string(data)
		}
		o.HostConfig.SecurityOpt = append(o.HostConfig.SecurityOpt, s)
	}
	sysctls, err := keyValues("--sysctl", c.sysctl)
	if len(sysctls) > 0 {
		o.HostConfig.Sysctls = sysctls
	}
	return err
}

func (c *containerFlags) setDevices(o *client.ContainerCreateOptions) error {
	for _, d := range c.devices {
		parts := strings.Split(d, ":")
		m := container.DeviceMapping{PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm"}
		if len(parts) > 3 {
			return fmt.Errorf("--device %q: want HOST[:CONTAINER[:rwm]]", d)
		}
		if len(parts) > 1 {
			m.PathInContainer = parts[1]
		}
		if len(parts) == 2 && !slices.ContainsFunc([]byte(parts[1]), func(b byte) bool { return !strings.ContainsRune("rwm", rune(b)) }) {
			m.PathInContainer, m.CgroupPermissions = parts[0], parts[1]
		}
		if len(parts) == 3 {
			m.CgroupPermissions = parts[2]
		}
		o.HostConfig.Devices = append(o.HostConfig.Devices, m)
	}
	return nil
}

// ago is a time as people read it.
func ago(t time.Time) string { return units.HumanDuration(time.Since(t)) + " ago" }
