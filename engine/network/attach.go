// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
)

// Attach gives a sandbox an interface on a network. Attaching again returns the endpoint that is there. A host port that is
// taken is errs.Conflict and nothing is left behind. On the networks host and none it does nothing.
func (n *Networks) Attach(_ context.Context, a Attachment) (Endpoint, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.await(func(key endpointKey, e *Endpoint) bool {
		return key.sandbox == a.Sandbox || a.IP.IsValid() && e.IP == a.IP
	})
	net, err := n.get(a.Network)
	if err != nil {
		return Endpoint{}, err
	}
	if net.Driver != DriverBridge && net.Driver != DriverRouted {
		return Endpoint{NetworkID: net.ID, Network: net.Name, Sandbox: a.Sandbox, NetnsPath: a.NetnsPath}, nil
	}
	if a.Sandbox == "" || strings.ContainsAny(a.Sandbox, "/\x00") || a.Sandbox[0] == '.' {
		return Endpoint{}, errs.New(errs.Invalid, "sandbox id %q is no plain name", a.Sandbox)
	}
	key := endpointKey{net.ID, a.Sandbox}
	if e := n.endpoints[key]; e != nil {
		return e.copy(), nil
	}
	e, err := n.newEndpoint(net, a)
	if errors.Is(err, errs.Unavailable) && n.await(func(key endpointKey, _ *Endpoint) bool { return key.network == net.ID }) {
		if net, err = n.get(a.Network); err == nil {
			e, err = n.newEndpoint(net, a)
		}
	}
	if err != nil {
		return Endpoint{}, fmt.Errorf("attach %s to network %s: %w", a.Sandbox, net.Name, err)
	}
	if err := n.attach(net, e, a); err != nil {
		err = fmt.Errorf("attach %s to network %s: %w", a.Sandbox, net.Name, err)
		return Endpoint{}, errors.Join(err, n.detach(key, e))
	}
	return e.copy(), nil
}

func (n *Networks) newEndpoint(net *Network, a Attachment) (*Endpoint, error) {
	e := &Endpoint{
		Version: 1, ID: newID(), NetworkID: net.ID, Network: net.Name, Sandbox: a.Sandbox, NetnsPath: a.NetnsPath,
		Interface: a.Interface, HostLink: linkName(n.name, net.ID, a.Sandbox), PrefixLen: net.Subnet.Bits(), Gateway: net.Gateway,
		Aliases: a.Aliases, NameServers: a.NameServers, Created: time.Now().UTC(),
	}
	if n.nameServers[net.ID] != nil {
		e.NameServer = net.Gateway
	}
	if net.Driver == DriverRouted {
		e.PrefixLen = 32
	}
	if e.Interface == "" {
		e.Interface = n.freeInterface(a.Sandbox)
	}
	used := map[netip.Addr]bool{}
	for key, other := range n.endpoints {
		if key.network == net.ID {
			used[other.IP] = true
		}
	}
	for key, d := range n.leaving {
		if key.network == net.ID {
			used[d.endpoint.IP] = true
		}
	}
	if a.IP.IsValid() {
		if !net.Subnet.Contains(a.IP) || a.IP == net.Gateway {
			return nil, errs.New(errs.Invalid, "address %s cannot be given in %s, whose gateway is %s", a.IP, net.Subnet, net.Gateway)
		}
		if used[a.IP] {
			return nil, errs.New(errs.Conflict, "address %s is already in use", a.IP)
		}
		e.IP = a.IP
	} else {
		var err error
		if e.IP, err = nextAddress(net.Subnet, net.Gateway, n.cursors[net.ID], used); err != nil {
			return nil, err
		}
		n.cursors[net.ID] = e.IP
	}
	e.MAC = hardwareAddr(e.IP)
	return e, nil
}

// freeInterface is eth0 for a sandbox's first network, eth1 for its second …
func (n *Networks) freeInterface(sandbox string) string {
	taken := map[string]bool{}
	for key, e := range n.endpoints {
		if key.sandbox == sandbox {
			taken[e.Interface] = true
		}
	}
	for i := 0; ; i++ {
		if name := fmt.Sprintf("eth%d", i); !taken[name] {
			return name
		}
	}
}

func (n *Networks) attach(net *Network, e *Endpoint, a Attachment) error {
	key := endpointKey{net.ID, e.Sandbox}
	n.endpoints[key] = e
	if err := n.files.saveEndpoint(e, true); err != nil {
		return err
	}
	if !a.IP.IsValid() {
		if err := n.files.saveCursor(net.ID, e.IP); err != nil {
			return err
		}
	}
	if err := n.openPorts(key, e, a.Ports); err != nil {
		return err
	}
	if err := n.makeLinks(net, e, a.NoDefaultRoute); err != nil {
		return err
	}
	if len(e.Ports) > 0 {
		if err := n.applyRules(); err != nil {
			return err
		}
	}
	return n.files.saveEndpoint(e, false)
}

// makeLinks makes the veth pair, one end here, the other in the sandbox's namespace, and gives them addresses and routes.
func (n *Networks) makeLinks(net *Network, e *Endpoint, noDefaultRoute bool) error {
	ns, err := os.OpenFile(e.NetnsPath, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("open the sandbox's network namespace: %w", err)
	}
	defer ns.Close()

	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = e.HostLink, net.MTU
	if net.Driver == DriverRouted {
		attrs.HardwareAddr = routedMAC()
	} else {
		bridge, err := n.nl.LinkByName(net.Bridge)
		if err != nil {
			return fmt.Errorf("look for bridge %s: %w", net.Bridge, err)
		}
		attrs.MasterIndex = bridge.Attrs().Index
	}
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerNamespace = e.Interface, e.MAC, netlink.NsFd(ns.Fd())
	if err := n.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("make link %s: %w", e.HostLink, err)
	}
	host, err := n.nl.LinkByName(e.HostLink)
	if err != nil {
		return fmt.Errorf("look for link %s: %w", e.HostLink, err)
	}
	inside, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("enter the sandbox's network namespace: %w", err)
	}
	defer inside.Close()
	peer, err := n.setUpInside(net, e, inside, noDefaultRoute)
	if err != nil {
		return fmt.Errorf("set up %s inside the sandbox: %w", e.Interface, err)
	}
	if err := n.setUpHostEnd(net, e, host); err != nil {
		return fmt.Errorf("set up link %s: %w", e.HostLink, err)
	}
	return n.settle(inside, peer, host)
}

// settle makes the links carry packets now. The end that came up first starts to send only when a kernel worker has seen
// the carrier; until then it drops, and a program's first connection would wait a second for its second SYN. Asking for
// a link makes the kernel (since 6.5) do that work at once.
func (n *Networks) settle(inside *netlink.Handle, peer, host netlink.Link) error {
	if _, err := inside.LinkByIndex(peer.Attrs().Index); err != nil {
		return err
	}
	if _, err := n.nl.LinkByIndex(host.Attrs().Index); err != nil {
		return err
	}
	if master := host.Attrs().MasterIndex; master != 0 {
		if _, err := n.nl.LinkByIndex(master); err != nil {
			return err
		}
	}
	return nil
}

func (n *Networks) setUpHostEnd(net *Network, e *Endpoint, host netlink.Link) error {
	if err := setLinkSysctl("ipv6", e.HostLink, "disable_ipv6", "1"); err != nil {
		return err
	}
	if net.Driver == DriverBridge {
		// Where br_netfilter is loaded, a packet translated back to its sender stays on the bridge and must turn round.
		if err := n.nl.LinkSetHairpin(host, true); err != nil {
			return err
		}
		return n.nl.LinkSetUp(host)
	}
	// A pod may only send from its own address: strict reverse path filtering drops everything else.
	if err := setLinkSysctl("ipv4", e.HostLink, "rp_filter", "1"); err != nil {
		return err
	}
	if err := n.nl.LinkSetUp(host); err != nil {
		return err
	}
	index := host.Attrs().Index
	if err := n.nl.NeighSet(permanent(index, e.IP, e.MAC)); err != nil {
		return fmt.Errorf("neighbour %s: %w", e.IP, err)
	}
	route := &netlink.Route{LinkIndex: index, Dst: ipNet(netip.PrefixFrom(e.IP, 32)), Scope: netlink.SCOPE_LINK, Src: net.Gateway.AsSlice()}
	if err := n.nl.RouteReplace(route); err != nil {
		return fmt.Errorf("route to %s: %w", e.IP, err)
	}
	return nil
}

func (n *Networks) setUpInside(net *Network, e *Endpoint, h *netlink.Handle, noDefaultRoute bool) (netlink.Link, error) {
	link, err := h.LinkByName(e.Interface)
	if err != nil {
		return nil, err
	}
	addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(e.IP, e.PrefixLen))}
	if net.Driver == DriverRouted {
		addr.Broadcast = []byte{0, 0, 0, 0} // the library would make the address its own broadcast
	}
	if err := h.AddrAdd(link, addr); err != nil {
		return nil, fmt.Errorf("address %s: %w", e.IP, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return nil, err
	}
	index := link.Attrs().Index
	if net.Driver == DriverRouted {
		if err := h.NeighSet(permanent(index, net.Gateway, routedMAC())); err != nil {
			return nil, fmt.Errorf("neighbour %s: %w", net.Gateway, err)
		}
		direct := &netlink.Route{LinkIndex: index, Dst: ipNet(netip.PrefixFrom(net.Gateway, 32)), Scope: netlink.SCOPE_LINK}
		if err := h.RouteAdd(direct); err != nil {
			return nil, fmt.Errorf("route to gateway %s: %w", net.Gateway, err)
		}
	}
	if noDefaultRoute || net.Internal {
		return link, nil
	}
	err = h.RouteAdd(&netlink.Route{LinkIndex: index, Gw: net.Gateway.AsSlice()})
	if err != nil && !errors.Is(err, unix.EEXIST) { // an earlier network's default route stays
		return nil, fmt.Errorf("default route by %s: %w", net.Gateway, err)
	}
	return link, nil
}

func permanent(index int, a netip.Addr, mac []byte) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: index, IP: a.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT, Family: netlink.FAMILY_V4}
}
