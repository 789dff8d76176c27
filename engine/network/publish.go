// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
)

// publication is one published port in user space: sockets that hold the port on this machine, so that nobody else can take
// it, and that carry what nftables does not translate: connections to ::1, and all of IPv6 on a network without it.
type publication struct {
	port    Port
	closers []func()
}

func closeAll(list []*publication) {
	for _, p := range list {
		for _, c := range p.closers {
			c()
		}
	}
}

// openPorts takes the host ports and writes into e.Ports which ones they are.
func (n *Networks) openPorts(key endpointKey, e *Endpoint, want []Port) error {
	for _, p := range want {
		p.Protocol = strings.ToLower(p.Protocol)
		if p.Protocol == "" {
			p.Protocol = "tcp"
		}
		p.HostIP = p.HostIP.Unmap()
		if err := checkPort(p); err != nil {
			return err
		}
		if net := n.networks[key.network]; !p.HostIP.IsValid() && net.Driver == DriverBridge {
			if p.HostIP = net.PublishOn; !p.HostIP.IsValid() {
				p.HostIP = n.publishOn
			}
		}
		pub, err := publishAny(p, e)
		if err != nil {
			return n.explainTaken(p, err)
		}
		n.published[key] = append(n.published[key], pub)
		e.Ports = append(e.Ports, pub.port)
	}
	return nil
}

func checkPort(p Port) error {
	if p.Protocol == "sctp" {
		return errs.New(errs.Unsupported, "port %d/sctp: SCTP cannot be published; containers reach it by the container's address", p.ContainerPort)
	}
	if p.HostPortEnd != 0 && p.HostPortEnd < p.HostPort {
		return errs.New(errs.Invalid, "port %d/%s: %d-%d is no range", p.ContainerPort, p.Protocol, p.HostPort, p.HostPortEnd)
	}
	if p.Protocol != "tcp" && p.Protocol != "udp" {
		return errs.New(errs.Unsupported, "port %d/%s: only tcp and udp can be published", p.ContainerPort, p.Protocol)
	}
	if p.ContainerPort == 0 {
		return errs.New(errs.Invalid, "port 0/%s: the container's port must be between 1 and 65535", p.Protocol)
	}
	return nil
}

// publishAny publishes on the first port of the wanted range that is free.
func publishAny(p Port, e *Endpoint) (pub *publication, err error) {
	last := max(p.HostPort, p.HostPortEnd)
	p.HostPortEnd = 0
	for again := 0; ; again++ { // a port that the kernel chose for IPv4 may be taken with IPv6
		pub, err = publishPort(p, e)
		if !errors.Is(err, unix.EADDRINUSE) || p.HostPort == last && (last != 0 || again > 10) {
			return pub, err
		}
		if last != 0 {
			p.HostPort++
		}
	}
}

// publishPort binds one port and serves it. An unspecified host address means every address, IPv4 and, if the machine has
// it, IPv6.
func publishPort(p Port, e *Endpoint) (*publication, error) {
	pub := &publication{port: p}
	hosts := []netip.Addr{p.HostIP}
	if !p.HostIP.IsValid() || p.HostIP == netip.IPv4Unspecified() {
		hosts = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	for i, host := range hosts {
		from := netip.AddrPortFrom(host, pub.port.HostPort)
		to := netip.AddrPortFrom(e.IP, p.ContainerPort)
		if host.Is6() && e.IP6.IsValid() {
			to = netip.AddrPortFrom(e.IP6, p.ContainerPort)
		}
		serve := forwardTCP
		if p.Protocol == "udp" {
			serve = forwardUDP
		}
		bound, closer, err := serve(from, to)
		if i > 0 && err != nil && !errors.Is(err, unix.EADDRINUSE) {
			continue // no IPv6 on this machine
		}
		if err != nil {
			closeAll([]*publication{pub})
			return nil, err
		}
		pub.port.HostPort = bound
		pub.closers = append(pub.closers, closer)
	}
	return pub, nil
}

// explainTaken makes a sentence of what bind(2) says.
func (n *Networks) explainTaken(p Port, err error) error {
	host := "every address"
	if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
		host = p.HostIP.String()
	}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		who := "another process of this machine"
		for _, e := range n.endpoints {
			for _, have := range e.Ports {
				if have.HostPort == p.HostPort && have.Protocol == p.Protocol {
					who = "container " + e.Sandbox[:min(12, len(e.Sandbox))]
				}
			}
		}
		return errs.New(errs.Conflict, "port %d/%s is already in use on %s by %s; choose another host port or stop what has it", p.HostPort, p.Protocol, host, who)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return errs.New(errs.Invalid, "cannot publish port %d/%s: %s is no address of this machine", p.HostPort, p.Protocol, host)
	default:
		return fmt.Errorf("publish port %d/%s on %s: %w", p.HostPort, p.Protocol, host, err)
	}
}

func hostPort(a netip.AddrPort) (network, address string) {
	network = "4"
	if a.Addr().Is6() {
		network = "6"
	}
	return network, net.JoinHostPort(a.Addr().String(), strconv.Itoa(int(a.Port())))
}

func listenTCP(from netip.AddrPort) (*net.TCPListener, error) {
	network, address := hostPort(from)
	l, err := net.Listen("tcp"+network, address)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// forgetFlows makes the kernel drop what it remembers of UDP flows to the endpoint: a client that goes on sending from the
// same port would else be sent to an address that is no longer there. TCP connections end by themselves.
func forgetFlows(e *Endpoint) {
	for _, p := range e.Ports {
		if p.Protocol != "udp" {
			continue
		}
		filter := &netlink.ConntrackFilter{}
		filter.AddProtocol(unix.IPPROTO_UDP)
		filter.AddIP(netlink.ConntrackReplySrcIP, e.IP.AsSlice())
		// Without conntrack in this kernel there are no flows to forget.
		netlink.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.FAMILY_V4, filter)
		if e.IP6.IsValid() {
			filter6 := &netlink.ConntrackFilter{}
			filter6.AddProtocol(unix.IPPROTO_UDP)
			filter6.AddIP(netlink.ConntrackReplySrcIP, e.IP6.AsSlice())
			netlink.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.FAMILY_V6, filter6)
		}
		return
	}
}
