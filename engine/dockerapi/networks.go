// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	dnetwork "github.com/moby/moby/api/types/network"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/engine/network"
	"github.com/knarr/knarr/internal/errs"
)

// predefined networks are always there and cannot be removed.
var predefined = map[string]bool{"bridge": true, "host": true, "none": true}

func networkView(n network.Network) dnetwork.Network {
	out := dnetwork.Network{
		Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver, EnableIPv4: true, Internal: n.Internal,
		Options: n.Options, Labels: n.Labels, IPAM: dnetwork.IPAM{Driver: "default", Config: []dnetwork.IPAMConfig{}},
	}
	if n.Driver == network.DriverNone {
		out.Driver = "null"
	}
	out.EnableIPv6 = n.IPv6
	for _, c := range []dnetwork.IPAMConfig{{Subnet: n.Subnet, Gateway: n.Gateway, IPRange: n.IPRange}, {Subnet: n.Subnet6, Gateway: n.Gateway6, IPRange: n.IPRange6}} {
		if !c.Subnet.IsValid() {
			continue
		}
		for what, a := range n.Reserved {
			if c.Subnet.Contains(a) {
				if c.AuxAddress == nil {
					c.AuxAddress = map[string]netip.Addr{}
				}
				c.AuxAddress[what] = a
			}
		}
		out.IPAM.Config = append(out.IPAM.Config, c)
	}
	if out.Options == nil {
		out.Options = map[string]string{}
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	return out
}

func (s *Server) networkList(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "id", "name", "label", "driver", "scope", "type", "dangling")
	if err != nil {
		return err
	}
	out := []dnetwork.Summary{}
	for _, n := range s.Networks.List() {
		if f.labels(n.Labels) &&
			(f["dangling"] == nil || f.flag("dangling", false) == (!predefined[n.Name] && len(s.Networks.Endpoints(n.ID)) == 0)) &&
			f.any("id", func(v string) bool { return strings.HasPrefix(n.ID, v) }) &&
			f.any("name", func(v string) bool { return strings.Contains(n.Name, v) }) &&
			f.any("driver", func(v string) bool { return networkView(n).Driver == v }) &&
			f.any("scope", func(v string) bool { return v == "local" }) &&
			f.any("type", func(v string) bool { return (v == "builtin") == predefined[n.Name] }) {
			out = append(out, dnetwork.Summary{Network: networkView(n)})
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) networkInspect(w http.ResponseWriter, r *http.Request) error {
	n, err := s.Networks.Get(r.PathValue("id"))
	if err != nil {
		return err
	}
	out := dnetwork.Inspect{Network: networkView(n), Containers: map[string]dnetwork.EndpointResource{}}
	for _, e := range s.Networks.Endpoints(n.ID) {
		res := dnetwork.EndpointResource{Name: e.Sandbox, EndpointID: e.ID, IPv4Address: netip.PrefixFrom(e.IP, e.PrefixLen), MacAddress: dnetwork.HardwareAddr(net.HardwareAddr(e.MAC))}
		if e.IP6.IsValid() {
			res.IPv6Address = netip.PrefixFrom(e.IP6, n.Subnet6.Bits())
		}
		if c, err := s.Containers.Get(e.Sandbox); err == nil {
			res.Name = c.Spec.Name
		}
		out.Containers[e.Sandbox] = res
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) networkCreate(w http.ResponseWriter, r *http.Request) error {
	var req dnetwork.CreateRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	if predefined[req.Name] {
		return errs.New(errs.Denied, "operation is not permitted on predefined %s network", req.Name)
	}
	spec, err := networkSpec(req)
	if err != nil {
		return err
	}
	n, err := s.Networks.Create(r.Context(), spec)
	if err != nil {
		return err
	}
	s.publishNetwork("create", n)
	return writeJSON(w, http.StatusCreated, dnetwork.CreateResponse{ID: n.ID})
}

// networkSpec translates a request to make a network.
func networkSpec(req dnetwork.CreateRequest) (network.Spec, error) {
	spec := network.Spec{Name: req.Name, Driver: req.Driver, Internal: req.Internal, Options: req.Options, Labels: req.Labels}
	no := func(format string, args ...any) (network.Spec, error) {
		return spec, errs.New(errs.Unsupported, format, args...)
	}
	switch {
	case req.Driver == "default":
		spec.Driver = ""
	case req.Driver == "host" || req.Driver == "null" || req.Driver == "none":
		return spec, errs.New(errs.Denied, "only one instance of %q network is allowed", req.Driver)
	case req.Driver != "" && req.Driver != network.DriverBridge:
		return spec, errs.New(errs.NotFound, "could not find plugin %s in v1 plugin registry: networks have the driver bridge", req.Driver)
	}
	switch {
	case req.EnableIPv4 != nil && !*req.EnableIPv4:
		return no("a network without IPv4 is not supported; --ipv6 gives it both")
	case req.ConfigOnly || req.ConfigFrom != nil:
		return no("networks that only hold configuration are not supported")
	case req.Ingress || req.Scope != "" && req.Scope != "local":
		return no("networks of a swarm are not supported")
	case req.IPAM != nil && req.IPAM.Driver != "" && req.IPAM.Driver != "default":
		return no("IPAM driver %q is not supported: there is only default", req.IPAM.Driver)
	}
	spec.IPv6 = req.EnableIPv6 != nil && *req.EnableIPv6
	if req.IPAM != nil {
		if err := addressesOf(req.IPAM.Config, &spec); err != nil {
			return spec, err
		}
	}
	return spec, driverOptions(req.Options, &spec)
}

func addressesOf(list []dnetwork.IPAMConfig, spec *network.Spec) error {
	seen := map[bool]bool{}
	for _, c := range list {
		six := c.Subnet.IsValid() && c.Subnet.Addr().Is6() || !c.Subnet.IsValid() && c.Gateway.Is6()
		if seen[six] {
			return errs.New(errs.Unsupported, "a network has one subnet of each family")
		}
		seen[six] = true
		if six {
			spec.Subnet6, spec.Gateway6, spec.IPRange6 = c.Subnet, c.Gateway, c.IPRange
		} else {
			spec.Subnet, spec.Gateway, spec.IPRange = c.Subnet, c.Gateway, c.IPRange
		}
		for what, a := range c.AuxAddress {
			if spec.Reserved == nil {
				spec.Reserved = map[string]netip.Addr{}
			}
			spec.Reserved[what] = a
		}
	}
	return nil
}

// driverOptions reads what docker network create -o may say to the bridge driver. Options of others are kept and mean nothing.
func driverOptions(options map[string]string, spec *network.Spec) error {
	var err error
	flag := func(v string) (on bool) {
		on, err = strconv.ParseBool(v)
		return on
	}
	for name, v := range options {
		switch name {
		case "com.docker.network.bridge.name":
			spec.Bridge = v
		case "com.docker.network.driver.mtu":
			spec.MTU, err = strconv.Atoi(v)
		case "com.docker.network.bridge.enable_icc":
			spec.Isolated = !flag(v)
		case "com.docker.network.bridge.enable_ip_masquerade":
			spec.MasqueradeOff = !flag(v)
		case "com.docker.network.bridge.host_binding_ipv4":
			spec.PublishOn, err = netip.ParseAddr(v)
		case "com.docker.network.container_iface_prefix":
			spec.LinkPrefix = v
		case "com.docker.network.enable_ipv6":
			spec.IPv6 = flag(v)
		}
		if err != nil {
			return errs.New(errs.Invalid, "invalid value for '%s': %w", name, err)
		}
	}
	return nil
}

func (s *Server) networkRemove(w http.ResponseWriter, r *http.Request) error {
	n, err := s.Networks.Get(r.PathValue("id"))
	if err != nil {
		return err
	}
	if predefined[n.Name] {
		return errs.New(errs.Denied, "%s is a pre-defined network and cannot be removed", n.Name)
	}
	if err := s.Networks.Remove(r.Context(), n.ID); err != nil {
		return err
	}
	s.publishNetwork("destroy", n)
	return done(w, nil)
}

func (s *Server) networkPrune(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "label", "label!", "until")
	if err != nil {
		return err
	}
	report := dnetwork.PruneReport{NetworksDeleted: []string{}}
	before, err := f.until(time.Now())
	if err != nil {
		return err
	}
	for _, n := range s.Networks.List() {
		if !before.IsZero() && !n.Created.Before(before) {
			continue
		}
		if predefined[n.Name] || n.Driver != network.DriverBridge || len(s.Networks.Endpoints(n.ID)) > 0 || !f.labels(n.Labels) {
			continue
		}
		if err := s.Networks.Remove(r.Context(), n.ID); err != nil {
			return err
		}
		s.publishNetwork("destroy", n)
		report.NetworksDeleted = append(report.NetworksDeleted, n.Name)
	}
	return writeJSON(w, http.StatusOK, report)
}

func (s *Server) networkConnect(w http.ResponseWriter, r *http.Request) error {
	var req dnetwork.ConnectRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	var spec container.NetworkSpec
	if ep := req.EndpointConfig; ep != nil {
		endpointWish(ep, &spec)
	}
	if n, err := s.Networks.Get(r.PathValue("id")); err == nil && n.Name == container.DefaultNetwork && (spec.IP.IsValid() || spec.IP6.IsValid()) {
		return errs.New(errs.Invalid, "invalid endpoint settings: user specified IP address is supported on user defined networks only")
	}
	if err := s.Containers.Connect(r.Context(), req.Container, r.PathValue("id"), spec); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) networkDisconnect(w http.ResponseWriter, r *http.Request) error {
	var req dnetwork.DisconnectRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	if err := s.Containers.Disconnect(r.Context(), req.Container, r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
