// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	dcontainer "github.com/moby/moby/api/types/container"
	dnetwork "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"github.com/knarr/knarr/engine/container"
)

// asked is what a container remembers of its create request, in the API's own words: inspect gives back what the engine's
// Spec has no place for or says otherwise (mount specifications, links, log options).
type asked struct {
	Config     *dcontainer.Config     `json:",omitempty"`
	HostConfig *dcontainer.HostConfig `json:",omitempty"`
}

// keep is the request as it is remembered; what the engine's own record holds is left out.
func keep(req dcontainer.CreateRequest) (json.RawMessage, error) {
	a := asked{HostConfig: req.HostConfig}
	if c := req.Config; c != nil {
		a.Config = &dcontainer.Config{AttachStdin: c.AttachStdin, AttachStdout: c.AttachStdout, AttachStderr: c.AttachStderr}
	}
	data, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("remember the request: %w", err)
	}
	return data, nil
}

// remembered is nil for a container that was not made through this API.
func remembered(c container.Container) *asked {
	var a asked
	if len(c.Spec.Request) == 0 || json.Unmarshal(c.Spec.Request, &a) != nil {
		return nil
	}
	return &a
}

func askedConfig(c container.Container) *dcontainer.Config {
	if a := remembered(c); a != nil {
		return a.Config
	}
	return nil
}

// askedHostConfig is the request's, with the engine's defaults and what has been updated since.
func askedHostConfig(c container.Container) *dcontainer.HostConfig {
	is := hostConfigOf(c)
	a := remembered(c)
	if a == nil || a.HostConfig == nil {
		return is
	}
	h := a.HostConfig
	h.NetworkMode, h.RestartPolicy, h.IpcMode, h.CgroupnsMode, h.ShmSize = is.NetworkMode, is.RestartPolicy, is.IpcMode, is.CgroupnsMode, is.ShmSize
	limits := is.Resources // as they took effect; what an update cannot change is as it was asked for
	limits.Devices, limits.DeviceCgroupRules, limits.DeviceRequests, limits.Ulimits = h.Devices, h.DeviceCgroupRules, h.DeviceRequests, h.Ulimits
	h.Resources = limits
	h.Runtime = cmp.Or(h.Runtime, runtimeName)
	h.LogConfig.Type = cmp.Or(h.LogConfig.Type, "json-file")
	if h.LogConfig.Config == nil {
		h.LogConfig.Config = map[string]string{}
	}
	if h.PortBindings == nil {
		h.PortBindings = dnetwork.PortMap{}
	}
	return h
}

// hashID makes an ID for what the engine gives none: always the same for the same parts.
func hashID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}

// graphDriver names the folders of a container's root file system as overlay2 does.
func (s *Server) graphDriver(c container.Container) (*storage.DriverData, error) {
	snap, err := s.Containers.Layers(c.ID)
	if err != nil {
		return nil, err
	}
	return &storage.DriverData{Name: "overlay2", Data: map[string]string{
		"ID": c.ID, "LowerDir": strings.Join(snap.Lower, ":"), "UpperDir": snap.RW, "WorkDir": snap.Work, "MergedDir": c.Rootfs,
	}}, nil
}

// oldInspect is inspect's answer before API 1.52, when the first network's values stood above the networks too.
type oldInspect struct {
	dcontainer.InspectResponse
	State           *stateView
	NetworkSettings oldNetwork
}

type oldNetwork struct {
	Bridge                 string
	SandboxID              string
	SandboxKey             string
	Ports                  dnetwork.PortMap
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
	Networks               map[string]*dnetwork.EndpointSettings
}

// oldNetworkSettings repeats the values of the default network, as Docker did for that network alone.
func oldNetworkSettings(c container.Container, n *dcontainer.NetworkSettings) oldNetwork {
	out := oldNetwork{SandboxID: n.SandboxID, SandboxKey: n.SandboxKey, Ports: n.Ports, Networks: n.Networks}
	e := n.Networks[container.DefaultNetwork]
	if e == nil {
		return out
	}
	out.EndpointID, out.IPPrefixLen, out.GlobalIPv6PrefixLen = e.EndpointID, e.IPPrefixLen, e.GlobalIPv6PrefixLen
	out.Gateway, out.IPAddress, out.GlobalIPv6Address, out.IPv6Gateway = text(e.Gateway), text(e.IPAddress), text(e.GlobalIPv6Address), text(e.IPv6Gateway)
	if len(e.MacAddress) > 0 {
		out.MacAddress = e.MacAddress.String()
	}
	return out
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
