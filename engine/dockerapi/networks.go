// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

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
	if n.Subnet.IsValid() {
		out.IPAM.Config = append(out.IPAM.Config, dnetwork.IPAMConfig{Subnet: n.Subnet, Gateway: n.Gateway})
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
	spec := network.Spec{Name: req.Name, Driver: req.Driver, Internal: req.Internal, Options: req.Options, Labels: req.Labels}
	if spec.Driver == "default" {
		spec.Driver = ""
	}
	if req.IPAM != nil && len(req.IPAM.Config) > 0 {
		spec.Subnet, spec.Gateway = req.IPAM.Config[0].Subnet, req.IPAM.Config[0].Gateway
	}
	n, err := s.Networks.Create(r.Context(), spec)
	if err != nil {
		return err
	}
	s.publishNetwork("create", n)
	return writeJSON(w, http.StatusCreated, dnetwork.CreateResponse{ID: n.ID})
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
	f, err := readFilters(r, "label", "until")
	if err != nil {
		return err
	}
	report := dnetwork.PruneReport{NetworksDeleted: []string{}}
	for _, n := range s.Networks.List() {
		if predefined[n.Name] || n.Driver != network.DriverBridge || len(s.Networks.Endpoints(n.ID)) > 0 || !f.labels(n.Labels) {
			continue
		}
		if err := s.Networks.Remove(r.Context(), n.ID); err != nil {
			return err
		}
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
		spec.Aliases = ep.Aliases
		if ep.IPAMConfig != nil {
			spec.IP = ep.IPAMConfig.IPv4Address
		}
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
