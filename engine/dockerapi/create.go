// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	dcontainer "github.com/moby/moby/api/types/container"
	dmount "github.com/moby/moby/api/types/mount"
	dnetwork "github.com/moby/moby/api/types/network"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/internal/errs"
)

func (s *Server) containerCreate(w http.ResponseWriter, r *http.Request) error {
	var req dcontainer.CreateRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	spec, err := specOf(r.URL.Query().Get("name"), req)
	if err != nil {
		return err
	}
	if spec.Request, err = keep(req); err != nil {
		return err
	}
	if want := r.URL.Query().Get("platform"); want != "" {
		if err := s.checkPlatform(spec.Image, want); err != nil {
			return err
		}
	}
	if spec.Mounts, err = s.mountsFrom(spec.Mounts, req.HostConfig); err != nil {
		return err
	}
	c, err := s.Containers.Create(r.Context(), spec)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, dcontainer.CreateResponse{ID: c.ID, Warnings: append([]string{}, c.Warnings...)})
}

// specOf translates a create request. It lists every fault it finds.
func specOf(name string, req dcontainer.CreateRequest) (container.Spec, error) {
	c, h := req.Config, req.HostConfig
	if c == nil {
		return container.Spec{}, errs.New(errs.Invalid, "config cannot be empty in order to create a container")
	}
	if h == nil {
		h = &dcontainer.HostConfig{}
	}
	var faults []string
	bad := func(err error) {
		if err != nil {
			faults = append(faults, err.Error())
		}
	}
	spec := container.Spec{
		Name: name, Image: c.Image, Labels: c.Labels, Annotations: h.Annotations,
		Cmd: c.Cmd, Env: c.Env, Dir: c.WorkingDir, User: c.User, Groups: h.GroupAdd,
		Hostname: c.Hostname, Domainname: c.Domainname, Terminal: c.Tty, OpenStdin: c.OpenStdin, StdinOnce: c.StdinOnce,
		StopSignal: c.StopSignal, Healthcheck: c.Healthcheck, Init: h.Init != nil && *h.Init, ShmSize: h.ShmSize, Tmpfs: h.Tmpfs,
		Restart:    container.RestartPolicy{Name: string(h.RestartPolicy.Name), MaxRetries: h.RestartPolicy.MaximumRetryCount},
		AutoRemove: h.AutoRemove, CgroupParent: h.CgroupParent,
		PidMode: string(h.PidMode), IpcMode: string(h.IpcMode), UTSMode: string(h.UTSMode),
		CgroupnsMode: string(h.CgroupnsMode), UsernsMode: string(h.UsernsMode),
	}
	if len(c.Entrypoint) > 0 {
		spec.Entrypoint = c.Entrypoint
		if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" { // docker run --entrypoint ""
			spec.Entrypoint = []string{}
		}
	}
	if c.StopTimeout != nil {
		d := time.Duration(*c.StopTimeout) * time.Second
		spec.StopGrace = &d
	}
	for _, err := range conflicts(c, h) {
		bad(err)
	}
	bad(dcontainer.ValidateRestartPolicy(h.RestartPolicy))
	if h.AutoRemove && h.RestartPolicy.Name != "" && h.RestartPolicy.Name != dcontainer.RestartPolicyDisabled {
		bad(fmt.Errorf("can't create 'AutoRemove' container with restart policy"))
	}
	var err error
	spec.Network, err = networkOf(c, h, req.NetworkingConfig)
	bad(err)
	spec.Resources, err = resourcesOf(h.Resources)
	bad(err)
	if h.OomScoreAdj != 0 {
		spec.Resources.OOMScoreAdj = &h.OomScoreAdj
	}
	spec.Security, err = securityOf(h)
	bad(err)
	spec.Mounts, err = mountsOf(c, h)
	bad(err)
	spec.LogMaxBytes, spec.LogMaxFiles, err = logOf(h.LogConfig)
	bad(err)
	spec.NoLog = h.LogConfig.Type == "none"
	spec.Networks = furtherNetworks(spec.Network.Mode, req.NetworkingConfig)
	for p := range c.ExposedPorts {
		spec.Expose = append(spec.Expose, p.String())
	}
	slices.Sort(spec.Expose)
	if err := unsupported(h); err != nil {
		return container.Spec{}, err
	}
	if len(faults) > 0 {
		return container.Spec{}, errs.New(errs.Invalid, "%s", strings.Join(faults, "; "))
	}
	return spec, nil
}

func networkOf(c *dcontainer.Config, h *dcontainer.HostConfig, nc *dnetwork.NetworkingConfig) (container.NetworkSpec, error) {
	n := container.NetworkSpec{Mode: string(h.NetworkMode), DNSSearch: h.DNSSearch, DNSOptions: h.DNSOptions, ExtraHosts: h.ExtraHosts, PublishAll: h.PublishAllPorts}
	if c.NetworkDisabled {
		n.Mode = "none"
	}
	if n.Mode == "" || n.Mode == "default" {
		n.Mode = "bridge"
	}
	for _, a := range h.DNS {
		n.DNS = append(n.DNS, a.String())
	}
	if nc != nil {
		if ep := nc.EndpointsConfig[cmp.Or(string(h.NetworkMode), n.Mode)]; ep != nil {
			endpointWish(ep, &n)
		}
	}
	if n.IP.IsValid() && n.Mode == "bridge" || n.IP6.IsValid() && n.Mode == "bridge" {
		return n, fmt.Errorf("invalid config for network bridge: user specified IP address is supported on user defined networks only")
	}
	for _, l := range h.Links {
		if !slices.Contains(n.Links, l) {
			n.Links = append(n.Links, l)
		}
	}
	for port, bindings := range h.PortBindings {
		if len(bindings) == 0 {
			bindings = []dnetwork.PortBinding{{}}
		}
		for _, b := range bindings {
			p := container.Port{HostIP: b.HostIP, ContainerPort: port.Num(), Protocol: string(port.Proto())}
			if b.HostPort != "" {
				first, last, isRange := strings.Cut(b.HostPort, "-") // the client expands ranges; one that is left means "one of these"
				v, err := strconv.ParseUint(first, 10, 16)
				if err == nil && isRange {
					var end uint64
					end, err = strconv.ParseUint(last, 10, 16)
					p.HostPortEnd = uint16(end)
				}
				if err != nil || isRange && p.HostPortEnd < uint16(v) {
					return n, fmt.Errorf("invalid port specification: %q", b.HostPort)
				}
				p.HostPort = uint16(v)
			}
			n.Ports = append(n.Ports, p)
		}
	}
	slices.SortFunc(n.Ports, func(a, b container.Port) int {
		return strings.Compare(fmt.Sprint(a.Protocol, a.ContainerPort, a.HostPort), fmt.Sprint(b.Protocol, b.ContainerPort, b.HostPort))
	})
	return n, nil
}

// endpointWish is what a client wants of a place in a network.
func endpointWish(ep *dnetwork.EndpointSettings, n *container.NetworkSpec) {
	n.Aliases, n.Links, n.GatewayPriority = ep.Aliases, ep.Links, ep.GwPriority
	if ep.IPAMConfig != nil {
		n.IP, n.IP6 = ep.IPAMConfig.IPv4Address, ep.IPAMConfig.IPv6Address
	}
	if len(ep.MacAddress) > 0 {
		n.MAC = ep.MacAddress.String()
	}
}

// furtherNetworks are those of a create request besides the one that NetworkMode names.
func furtherNetworks(mode string, nc *dnetwork.NetworkingConfig) map[string]container.NetworkSpec {
	if nc == nil {
		return nil
	}
	out := map[string]container.NetworkSpec{}
	for name, ep := range nc.EndpointsConfig {
		if name == mode || name == "default" {
			continue
		}
		n := container.NetworkSpec{}
		if ep != nil {
			endpointWish(ep, &n)
		}
		out[name] = n
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// checkPlatform says whether the image is the one for a platform ("linux/arm64"), as docker run --platform asks.
func (s *Server) checkPlatform(ref, want string) error {
	img, err := s.Images.Get(ref)
	if err != nil {
		return err
	}
	if have := img.Platform(); have != want && !strings.HasPrefix(have, want+"/") && have != "linux/"+want {
		return errs.New(errs.NotFound, "image with reference %s was found but its platform (%s) does not match the specified platform (%s)", ref, have, want)
	}
	return nil
}

// unsupported refuses by name what would silently not happen.
func unsupported(h *dcontainer.HostConfig) error {
	no := func(format string, args ...any) error { return errs.New(errs.Unsupported, format, args...) }
	switch {
	case h.Runtime != "" && h.Runtime != runtimeName:
		return errs.New(errs.Invalid, "unknown or invalid runtime name: %s; there is only %s", h.Runtime, runtimeName)
	case !h.Isolation.IsDefault():
		return errs.New(errs.Invalid, "invalid isolation %q: linux has only the default", h.Isolation)
	case h.VolumeDriver != "" && h.VolumeDriver != "local":
		return no("volume driver %q is not supported: there is only local", h.VolumeDriver)
	case len(h.StorageOpt) > 0:
		return no("--storage-opt is not supported: the size of a container's own layer cannot be limited")
	}
	return nil
}

// runtimeName is how the API calls knarr-shim.
const runtimeName = "knarr"

// logOf reads how much of the log is kept. Everything is logged to files that logs reads; another driver would be a lie.
func logOf(c dcontainer.LogConfig) (maxBytes int64, maxFiles int, err error) {
	switch c.Type {
	case "", "json-file", "local":
	case "none":
		if len(c.Config) > 0 {
			return 0, 0, fmt.Errorf("logging driver \"none\" has no options")
		}
	default:
		return 0, 0, fmt.Errorf("logging driver %q is not supported: use json-file, local or none", c.Type)
	}
	for name, v := range c.Config {
		switch name {
		case "max-size":
			maxBytes, err = units.RAMInBytes(v)
			if err == nil && maxBytes <= 0 && v != "-1" {
				err = fmt.Errorf("it must be positive")
			}
			maxBytes = max(0, maxBytes)
		case "max-file":
			if maxFiles, err = strconv.Atoi(v); err == nil && (maxFiles < 1 || maxFiles > 1000) {
				err = fmt.Errorf("it must be from 1 to 1000")
			}
		case "compress", "mode", "max-buffer-size", "labels", "labels-regex", "env", "env-regex", "tag": // they change no line
		default:
			err = fmt.Errorf("it is not known")
		}
		if err != nil {
			return 0, 0, fmt.Errorf("invalid log option %s=%s: %w", name, v, err)
		}
	}
	return maxBytes, maxFiles, nil
}

func securityOf(h *dcontainer.HostConfig) (container.Security, error) {
	out := container.Security{
		Privileged: h.Privileged, CapAdd: h.CapAdd, CapDrop: h.CapDrop, ReadonlyRootfs: h.ReadonlyRootfs,
		Sysctls: h.Sysctls, MaskedPaths: h.MaskedPaths, ReadonlyPaths: h.ReadonlyPaths,
	}
	for _, opt := range h.SecurityOpt {
		name, value, ok := strings.Cut(opt, "=")
		if !ok {
			name, value, ok = strings.Cut(opt, ":")
		}
		switch {
		case opt == "no-new-privileges":
			out.NoNewPrivileges = true
		case name == "no-new-privileges" && ok:
			v, err := strconv.ParseBool(value)
			if err != nil {
				return out, fmt.Errorf("invalid --security-opt: %q", opt)
			}
			out.NoNewPrivileges = v
		case name == "seccomp" && value != "":
			out.Seccomp = value
			if value == "builtin" {
				out.Seccomp = ""
			}
		case name == "systempaths" && value == "unconfined":
			out.MaskedPaths, out.ReadonlyPaths = []string{}, []string{}
		case name == "label" || name == "apparmor" && (value == "unconfined" || value == "docker-default"):
			// neither SELinux nor AppArmor confines here, so there is nothing to turn off
		default:
			return out, fmt.Errorf("invalid --security-opt: %q", opt)
		}
	}
	return out, nil
}

func mountsOf(c *dcontainer.Config, h *dcontainer.HostConfig) ([]container.Mount, error) {
	var out []container.Mount
	for _, b := range h.Binds {
		m, err := parseBind(b)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	for _, m := range h.Mounts {
		v := container.Mount{Type: string(m.Type), Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly}
		switch m.Type {
		case dmount.TypeBind:
			if m.BindOptions != nil {
				v.Propagation, v.CreateSource = string(m.BindOptions.Propagation), m.BindOptions.CreateMountpoint
				v.NonRecursive, v.ReadOnlyShallow = m.BindOptions.NonRecursive, m.BindOptions.ReadOnlyNonRecursive
			}
			if _, err := os.Stat(m.Source); err != nil && !v.CreateSource {
				return nil, fmt.Errorf("invalid mount config for type \"bind\": bind source path does not exist: %s", m.Source)
			}
		case dmount.TypeVolume:
			if o := m.VolumeOptions; o != nil {
				v.NoCopy, v.Subpath, v.VolumeLabels = o.NoCopy, o.Subpath, o.Labels
				if d := o.DriverConfig; d != nil {
					if d.Name != "" && d.Name != "local" {
						return nil, fmt.Errorf("volume driver %q is not supported: there is only local", d.Name)
					}
					v.VolumeOptions = d.Options
				}
			}
		case dmount.TypeImage:
			if m.ImageOptions != nil {
				v.Subpath = m.ImageOptions.Subpath
			}
			v.ReadOnly = true
		case dmount.TypeTmpfs:
			if o := m.TmpfsOptions; o != nil {
				if o.SizeBytes > 0 {
					v.Options = append(v.Options, fmt.Sprintf("size=%d", o.SizeBytes))
				}
				if o.Mode != 0 {
					v.Options = append(v.Options, fmt.Sprintf("mode=%o", o.Mode))
				}
				for _, kv := range o.Options {
					v.Options = append(v.Options, strings.Join(kv, "="))
				}
			}
		default:
			return nil, fmt.Errorf("invalid mount config: mount type %q is not supported", m.Type)
		}
		out = append(out, v)
	}
	for target := range c.Volumes {
		if !slices.ContainsFunc(out, func(m container.Mount) bool { return m.Target == target }) {
			out = append(out, container.Mount{Type: "volume", Target: target})
		}
	}
	return out, nil
}

// parseBind reads docker's -v: [SOURCE:]TARGET[:OPTIONS]; a source with a slash is a host path, else a volume's name.
func parseBind(b string) (container.Mount, error) {
	parts := strings.Split(b, ":")
	m := container.Mount{Type: "volume"}
	switch len(parts) {
	case 1:
		m.Target = parts[0]
	case 2, 3:
		m.Source, m.Target = parts[0], parts[1]
	default:
		return m, fmt.Errorf("invalid volume specification: %q", b)
	}
	if strings.HasPrefix(m.Source, "/") {
		m.Type, m.CreateSource = "bind", true
	} else if strings.Contains(m.Source, "/") {
		return m, fmt.Errorf("invalid volume specification: %q: %q is neither an absolute path nor a volume name", b, m.Source)
	}
	if !strings.HasPrefix(m.Target, "/") || m.Target == "/" {
		return m, fmt.Errorf("invalid volume specification: %q: invalid mount path: %q mount path must be absolute and not '/'", b, m.Target)
	}
	if len(parts) == 3 {
		for o := range strings.SplitSeq(parts[2], ",") {
			switch o {
			case "ro":
				m.ReadOnly = true
			case "nocopy":
				m.NoCopy = true
			case "rw", "z", "Z", "", "copy", "cached", "delegated", "consistent":
			case "rprivate", "private", "rshared", "shared", "rslave", "slave":
				m.Propagation = o
			default:
				return m, fmt.Errorf("invalid volume specification: %q: invalid mode: %s", b, o)
			}
		}
	}
	return m, nil
}

// fromMode reads the words behind --volumes-from CONTAINER. Labels (z, Z) mean nothing here: nothing is relabelled.
func fromMode(from, words string) (readOnly bool, err error) {
	for w := range strings.SplitSeq(words, ",") {
		switch w {
		case "ro":
			readOnly = true
		case "", "rw", "z", "Z", "nocopy":
		default:
			return false, errs.New(errs.Invalid, "invalid mode %q for volumes-from %s", w, from)
		}
	}
	return readOnly, nil
}

// mountsFrom adds the mounts of --volumes-from CONTAINER[:ro|rw].
func (s *Server) mountsFrom(have []container.Mount, h *dcontainer.HostConfig) ([]container.Mount, error) {
	if h == nil {
		return have, nil
	}
	for _, from := range h.VolumesFrom {
		ref, mode, _ := strings.Cut(from, ":")
		readOnly, err := fromMode(from, mode)
		if err != nil {
			return nil, err
		}
		c, err := s.Containers.Get(ref)
		if err != nil {
			return nil, err
		}
		for _, p := range c.MountPoints {
			if slices.ContainsFunc(have, func(m container.Mount) bool { return m.Target == p.Target }) {
				continue
			}
			m := container.Mount{Type: p.Type, Source: p.Source, Target: p.Target, ReadOnly: p.ReadOnly || readOnly, Subpath: p.Subpath, Propagation: p.Propagation, NoCopy: true}
			if p.Type == "volume" || p.Type == "image" {
				m.Source = p.Name
			}
			have = append(have, m)
		}
	}
	return have, nil
}
