// SPDX-License-Identifier: Apache-2.0

// Package network gives containers and pods their network: namespaces, addresses, links, published ports.
//
// It owns, per instance: the networks (files under Config.Dir), the endpoints (one per sandbox and network, files under
// Config.RunDir, because a reboot voids them together with the namespaces they describe), the bridges and veth pairs in the
// kernel, the nftables tables "<name>-engine" (ip, and ip6 once a network has IPv6), and the sockets that hold published ports.
//
// It does not know containers, pods or services: a sandbox is an id and the path of a pinned network namespace. It does not
// choose which network a container joins, and it never touches a table, link or route it did not make.
//
// Two drivers have links. "bridge" is Docker's: one broadcast domain per network, addresses inside it, NAT to the outside,
// isolated from other bridges; with IPv6 if asked. "routed" is for pods: each endpoint has a point-to-point link and a host route, so every
// packet between two pods passes the host's routing and connection tracking (docs/decisions/020-pod-links.md says why).
// "host" and "none" exist so that callers need no special case: attaching to them does nothing.
//
// Invariants: an address belongs to at most one endpoint file of its network; a link whose name starts with the instance's
// link prefix has an endpoint file; the nftables table is a pure function of networks and endpoints (Rules). A file is
// written before its kernel object is made and removed after it is gone, so Open can always finish or undo.
//
// Goroutines: Run watches nftables and restores the table. Each endpoint whose namespace is gone has one that deletes its link,
// from DetachAll until the kernel has done it. Each published port has one goroutine, from Attach (or Open) to
// Detach (or Close), that serves what the kernel does not translate: connections to ::1, and IPv6 on networks without it. Each network that a user
// made has two, from Create (or Open) to Remove (or Close), that answer names. All methods may be called concurrently.
package network

import (
	"net"
	"net/netip"
	"time"
)

// Drivers of a network.
const (
	DriverBridge = "bridge"
	DriverRouted = "routed"
	DriverHost   = "host"
	DriverNone   = "none"
)

// Spec is what a caller may choose about a network. The zero value of each field but Name means "decide for me".
type Spec struct {
	Name   string `json:"name"`
	Driver string `json:"driver"` // default: bridge

	Subnet  netip.Prefix `json:"subnet"`  // default: the first of the pool that no route of this machine overlaps
	Gateway netip.Addr   `json:"gateway"` // default: the subnet's first address
	IPRange netip.Prefix `json:"ipRange"` // where addresses are given from; default: the whole subnet

	IPv6     bool         `json:"ipv6,omitempty"` // addresses of both families
	Subnet6  netip.Prefix `json:"subnet6"`        // default: a /64 of the instance's own unique local range
	Gateway6 netip.Addr   `json:"gateway6"`       // default: the subnet's first address
	IPRange6 netip.Prefix `json:"ipRange6"`

	Reserved map[string]netip.Addr `json:"reserved,omitempty"` // addresses that others have, by what they are for

	MTU    int    `json:"mtu"`    // bytes; default: that of the link with the default route, else 1500
	Bridge string `json:"bridge"` // name of the bridge, at most 15 bytes; default: made from the instance and the id

	Internal      bool           `json:"internal,omitempty"`      // nothing goes outside
	Isolated      bool           `json:"isolated,omitempty"`      // its containers do not reach each other
	PublishOn     netip.Addr     `json:"publishOn"`               // host address of ports that name none; default: Config.PublishOn
	LinkPrefix    string         `json:"linkPrefix,omitempty"`    // of the interfaces inside; default: eth
	MasqueradeOff bool           `json:"masqueradeOff,omitempty"` // addresses are seen outside as they are
	NoMasquerade  []netip.Prefix `json:"noMasquerade,omitempty"`  // destinations that see the addresses as they are

	Labels  map[string]string `json:"labels,omitempty"`
	Options map[string]string `json:"options,omitempty"` // the driver options as given (Docker shows them)
}

// Network is a network that exists. Its Spec has every default filled in.
type Network struct {
	Version int    `json:"version"` // of the file format: 1
	ID      string `json:"id"`      // 64 hexadecimal digits
	Spec
	Created time.Time `json:"created"`
}

// Port is one published port.
type Port struct {
	HostIP        netip.Addr `json:"hostIP"`   // zero or unspecified: every address of the machine
	HostPort      uint16     `json:"hostPort"` // 0: a free one is chosen
	ContainerPort uint16     `json:"containerPort"`
	HostPortEnd   uint16     `json:"hostPortEnd,omitempty"` // above HostPort: the first free one from HostPort to here
	Protocol      string     `json:"protocol"`              // tcp (default) or udp
}

// Attachment asks for an endpoint: one sandbox on one network.
type Attachment struct {
	Network   string           // name, id or a unique prefix of the id
	Sandbox   string           // id of the sandbox; one endpoint per sandbox and network
	NetnsPath string           // as given to NewNamespace
	Interface string           // its name inside; default: eth0, eth1 … the first free one
	IP, IP6   netip.Addr       // wishes
	MAC       net.HardwareAddr // default: made from the address
	Ports     []Port
	Aliases   []string          // names by which others of the network find it (container name, --network-alias)
	Links     map[string]string // names by which it alone finds others: to their sandboxes

	// NameServers answer what the network's own name server does not know; none: those of this machine.
	NameServers []netip.Addr

	// GatewayPriority decides which of a sandbox's networks has its default route: the highest; of several the first by
	// name. An internal network never has.
	GatewayPriority int
}

// Endpoint is a sandbox's place on a network.
type Endpoint struct {
	Version   int              `json:"version"` // of the file format: 1
	ID        string           `json:"id"`      // 64 hexadecimal digits
	NetworkID string           `json:"networkID"`
	Network   string           `json:"network"` // the network's name
	Sandbox   string           `json:"sandbox"`
	NetnsPath string           `json:"netnsPath"`
	Interface string           `json:"interface"` // inside the namespace
	HostLink  string           `json:"hostLink"`  // its other end
	IP        netip.Addr       `json:"ip"`
	PrefixLen int              `json:"prefixLen"`
	IP6       netip.Addr       `json:"ip6"` // zero without IPv6; its gateway and prefix are the network's
	Priority  int              `json:"priority,omitempty"`
	Gateway   netip.Addr       `json:"gateway"`
	MAC       net.HardwareAddr `json:"mac"`
	Ports     []Port           `json:"ports,omitempty"` // with the host ports really taken
	Aliases   []string         `json:"aliases,omitempty"`

	Links map[string]string `json:"links,omitempty"` // see Attachment

	// NameServer is where the network's containers find each other by name; zero if the network has none.
	NameServer netip.Addr `json:"nameServer"`

	NameServers []netip.Addr `json:"nameServers,omitempty"` // see Attachment

	Created time.Time `json:"created"`
}
