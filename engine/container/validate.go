// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"maps"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/knarr/knarr/internal/errs"
)

// validate reports every fault of a Spec that can be told without looking at anything else.
func validate(s Spec) error {
	var f faults
	if s.Name != "" {
		f.err(checkName(s.Name))
	}
	if s.Image == "" {
		f.add("no image given")
	}
	f.err(checkUser(s.User))
	for _, kv := range s.Env {
		if kv == "" || kv[0] == '=' || strings.ContainsRune(kv, 0) {
			f.add("invalid environment variable: %q", kv)
		}
	}
	for name, h := range map[string]string{"hostname": s.Hostname, "domainname": s.Domainname} {
		if len(h) > 64 || strings.ContainsAny(h, " \t\r\n\x00/") {
			f.add("invalid %s %q", name, h)
		}
	}
	if s.StopSignal != "" {
		_, err := parseSignal(s.StopSignal)
		f.err(err)
	}
	f.restart(s)
	f.resources(s.Resources)
	f.mounts(s)
	f.network(s)
	for k, v := range s.Security.Sysctls {
		f.err(checkSysctl(k, v, s))
	}
	if s.LogPath != "" && !path.IsAbs(s.LogPath) {
		f.add("the log path %q is not absolute", s.LogPath)
	}
	for field, mode := range map[string]string{"PidMode": s.PidMode, "IpcMode": s.IpcMode, "UTSMode": s.UTSMode, "CgroupnsMode": s.CgroupnsMode, "UsernsMode": s.UsernsMode} {
		f.namespace(field, mode)
	}
	return errors.Join(f.list...)
}

type faults struct{ list []error }

func (f *faults) add(format string, args ...any) {
	f.list = append(f.list, errs.New(errs.Invalid, format, args...))
}

func (f *faults) err(err error) {
	if err != nil {
		f.list = append(f.list, err)
	}
}

func (f *faults) restart(s Spec) {
	switch s.Restart.Name {
	case "", "no", "always", "unless-stopped":
		if s.Restart.MaxRetries != 0 {
			f.add("invalid restart policy: maximum retry count can only be used with 'on-failure'")
		}
	case "on-failure":
		if s.Restart.MaxRetries < 0 {
			f.add("invalid restart policy: maximum retry count cannot be negative")
		}
	default:
		f.add("invalid restart policy: unknown policy '%s'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'", s.Restart.Name)
	}
	if s.AutoRemove && s.Restart.Name != "" && s.Restart.Name != "no" {
		f.add("can't create 'AutoRemove' container with restart policy")
	}
}

// resources are judged here as far as they do not depend on the machine; see fit for the rest.
func (f *faults) resources(r Resources) {
	if r.OOMScoreAdj != nil && (*r.OOMScoreAdj < -1000 || *r.OOMScoreAdj > 1000) {
		f.add("Invalid value %d, range for oom score adj is [-1000, 1000]", *r.OOMScoreAdj)
	}
	for _, u := range r.Ulimits {
		if u.Soft > u.Hard {
			f.add("ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
		}
	}
	for _, d := range r.Devices {
		if strings.Trim(d.Permissions, "rwm") != "" {
			f.add("bad mode specified: %s", d.Permissions)
		}
	}
	for _, rule := range r.DeviceRules {
		_, err := parseDeviceRule(rule)
		f.err(err)
	}
}

func (f *faults) mounts(s Spec) {
	seen := map[string]bool{}
	check := func(target string) {
		clean := path.Clean(target)
		switch {
		case !path.IsAbs(target) || strings.ContainsRune(target, 0):
			f.add("invalid mount path: '%s' mount path must be absolute", target)
		case clean == "/":
			f.add("invalid specification: destination can't be '/'")
		case seen[clean]:
			f.add("Duplicate mount point: %s", clean)
		}
		seen[clean] = true
	}
	for i, m := range s.Mounts {
		check(m.Target)
		switch m.Type {
		case "bind":
			if !path.IsAbs(m.Source) {
				f.add("mount %d: invalid bind source %q: the path must be absolute", i, m.Source)
			}
		case "volume", "tmpfs":
		case "image":
			if m.Source == "" {
				f.add("mount %d: an image mount needs the image as its source", i)
			}
		default:
			f.add("mount %d: unknown type %q; use bind, volume, tmpfs or image", i, m.Type)
		}
		if m.Subpath != "" && !filepath.IsLocal(m.Subpath) {
			f.add("mount %d: invalid subpath %q: it must be a relative path within the volume", i, m.Subpath)
		}
		switch m.Propagation {
		case "", "private", "rprivate", "slave", "rslave", "shared", "rshared":
		default:
			f.add("mount %d: invalid propagation mode %q", i, m.Propagation)
		}
	}
	for target := range s.Tmpfs {
		check(target)
	}
}

func (f *faults) network(s Spec) {
	if s.Sandbox != "" && (s.Network.Mode != "" || len(s.Network.Ports) > 0) {
		f.add("a container in a sandbox has the sandbox's network")
	}
	if mode := s.Network.Mode; len(s.Networks) > 0 && (mode == "host" || mode == "none" || strings.HasPrefix(mode, "container:") || s.Sandbox != "") {
		f.add("conflicting options: a container with network mode %q cannot be on further networks", mode)
	}
	for _, p := range s.Network.Ports {
		if p.ContainerPort == 0 {
			f.add("invalid port mapping: the container port is missing")
		}
		if p.Protocol != "" && p.Protocol != "tcp" && p.Protocol != "udp" {
			f.add("invalid port mapping: protocol %q is neither tcp nor udp; others reach the container by its own address", p.Protocol)
		}
	}
	for _, n := range append(slices.Collect(maps.Values(s.Networks)), s.Network) {
		if n.MAC != "" {
			_, err := parseMAC(n.MAC)
			f.err(err)
		}
	}
	for _, h := range s.Network.ExtraHosts {
		name, addr, ok := cutHost(h)
		if _, err := netip.ParseAddr(addr); !ok || name == "" || strings.ContainsAny(name, " \t\r\n#") || err != nil && addr != hostGateway {
			f.add("bad format for add-host: %q", h)
		}
	}
	for _, d := range s.Network.DNS {
		if _, err := netip.ParseAddr(d); err != nil {
			f.add("%s is not an IP address: name servers are given by address", d)
		}
	}
	for _, w := range append(append([]string{}, s.Network.DNSSearch...), s.Network.DNSOptions...) {
		if strings.ContainsAny(w, " \t\r\n\x00#;") {
			f.add("bad DNS search domain or option %q", w)
		}
	}
}

const hostGateway = "host-gateway"

// cutHost splits "name:address" or "name=address".
func cutHost(h string) (name, addr string, ok bool) {
	if i := strings.IndexAny(h, ":="); i >= 0 {
		return h[:i], strings.Trim(h[i+1:], "[]"), true
	}
	return h, "", false
}

func (f *faults) namespace(field, mode string) {
	kind, rest, _ := strings.Cut(mode, ":")
	switch {
	case mode == "" || mode == "host":
	case field == "UsernsMode":
		f.list = append(f.list, errs.New(errs.Unsupported, "user namespace mode %q is not supported yet", mode))
	case mode == "private":
	case field == "IpcMode" && (mode == "none" || mode == "shareable"):
	case kind == "container" && rest != "" && (field == "PidMode" || field == "IpcMode"):
	default:
		f.add("invalid %s: %q", field, mode)
	}
}

// checkSysctl admits the keys that belong to a namespace of the container's own, and values of one line (CVE-2022-0811).
func checkSysctl(key, value string, s Spec) error {
	k := strings.ReplaceAll(key, "/", ".")
	if strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/") != "" || strings.Contains(k, "..") {
		return errs.New(errs.Invalid, "invalid sysctl %q", key)
	}
	if strings.ContainsAny(value, "\n\r\x00+") {
		return errs.New(errs.Invalid, "invalid value %q of sysctl %s", value, key)
	}
	switch {
	case strings.HasPrefix(k, "net."):
		if s.Network.Mode == "host" {
			return errs.New(errs.Invalid, "sysctl %s is not allowed in the host network namespace", key)
		}
		return nil
	case strings.HasPrefix(k, "fs.mqueue."), strings.HasPrefix(k, "kernel.shm"), strings.HasPrefix(k, "kernel.msg"), k == "kernel.sem":
		if s.IpcMode == "host" {
			return errs.New(errs.Invalid, "sysctl %s is not allowed in the host ipc namespace", key)
		}
		return nil
	}
	return errs.New(errs.Invalid, "sysctl %s is not in a separate kernel namespace", key)
}
