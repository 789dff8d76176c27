// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
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
		return key.sandbox == a.Sandbox || a.IP.IsValid() && e.IP == a.IP || a.IP6.IsValid() && e.IP6 == a.IP6
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
		Aliases: a.Aliases, Links: a.Links, NameServers: a.NameServers, Priority: a.GatewayPriority, Created: time.Now().UTC(),
	}
	if n.nameServers[net.ID] != nil {
		e.NameServer = net.Gateway
	}
	if net.Driver == DriverRouted {
		e.PrefixLen = 32
	}
	if e.Interface == "" {
		e.Interface = n.freeInterface(net.LinkPrefix, a.Sandbox)
	}
	if err := n.giveAddresses(net, e, a); err != nil {
		return nil, err
	}
	if e.MAC = a.MAC; e.MAC == nil {
		e.MAC = hardwareAddr(e.IP)
	}
	return e, nil
}

func (n *Networks) giveAddresses(net *Network, e *Endpoint, a Attachment) (err error) {
	used := n.usedAddresses(net)
	if a.IP.IsValid() {
		e.IP = a.IP
		if err := checkWish(net.Subnet, net.Gateway, a.IP, used); err != nil {
			return err
		}
	} else {
		within := net.IPRange
		if !within.IsValid() {
			within = net.Subnet
		}
		if e.IP, err = nextAddress(net.Subnet, within, net.Gateway, n.cursors[net.ID], used); err != nil {
			return err
		}
		n.cursors[net.ID] = e.IP
	}
	if !net.IPv6 {
		if a.IP6.IsValid() {
			return errs.New(errs.Invalid, "network %s has no IPv6, so address %s cannot be given", net.Name, a.IP6)
		}
		return nil
	}
	if a.IP6.IsValid() {
		e.IP6 = a.IP6
		return checkWish(net.Subnet6, net.Gateway6, a.IP6, used)
	}
	within := net.IPRange6
	if !within.IsValid() {
		within = net.Subnet6
	}
	if e.IP6 = address6(net.Subnet6, net.Subnet, e.IP); within.Contains(e.IP6) && e.IP6 != net.Gateway6 && !used[e.IP6] {
		return nil
	}
	e.IP6, err = nextAddress(net.Subnet6, within, net.Gateway6, netip.Addr{}, used)
	return err
}

func checkWish(subnet netip.Prefix, gateway, wish netip.Addr, used map[netip.Addr]bool) error {
	if !subnet.Contains(wish) || wish == gateway || wish == subnet.Masked().Addr() || wish.Is4() && wish == lastAddress(subnet) {
		return errs.New(errs.Invalid, "invalid address %s: it cannot be given in %s, whose gateway is %s", wish, subnet, gateway)
	}
	if used[wish] {
		return errs.New(errs.Conflict, "Address already in use: %s", wish)
	}
	return nil
}

// usedAddresses are those that somebody has, or had until its link is gone.
func (n *Networks) usedAddresses(net *Network) map[netip.Addr]bool {
	used := map[netip.Addr]bool{}
	for key, e := range n.endpoints {
		if key.network == net.ID {
			used[e.IP], used[e.IP6] = true, true
		}
	}
	for key, d := range n.leaving {
		if key.network == net.ID {
			used[d.endpoint.IP], used[d.endpoint.IP6] = true, true
		}
	}
	for _, a := range net.Reserved {
		used[a] = true
	}
	return used
}

// freeInterface is eth0 for a sandbox's first network, eth1 for its second …
func (n *Networks) freeInterface(prefix, sandbox string) string {
	if prefix == "" {
		prefix = "eth"
	}
	taken := map[string]bool{}
	for key, e := range n.endpoints {
		if key.sandbox == sandbox {
			taken[e.Interface] = true
		}
	}
	for i := 0; ; i++ {
		if name := prefix + strconv.Itoa(i); !taken[name] {
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
	if err := n.makeLinks(net, e); err != nil {
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
func (n *Networks) makeLinks(net *Network, e *Endpoint) error {
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
	if net.IPv6 {
		// Here its addresses come from us alone, and are known to be nobody else's.
		sysctls := map[string]string{"disable_ipv6": "0", "accept_dad": "0", "accept_ra": "0", "autoconf": "0"}
		if err := setSysctlsInside(ns, e.Interface, sysctls); err != nil {
			return err
		}
	}
	peer, err := n.setUpInside(net, e, inside)
	if err != nil {
		return fmt.Errorf("set up %s inside the sandbox: %w", e.Interface, err)
	}
	if err := n.routeOut(e.Sandbox, inside); err != nil {
		return err
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
		if net.Isolated {
			if err := n.nl.LinkSetIsolated(host, true); err != nil {
				return err
			}
		}
		return n.nl.LinkSetUp(host)
	}
	if len(e.Ports) > 0 { // so that 127.0.0.1 leads to them; see Rules
		if err := setLinkSysctl("ipv4", e.HostLink, "route_localnet", "1"); err != nil {
			return err
		}
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

func (n *Networks) setUpInside(net *Network, e *Endpoint, h *netlink.Handle) (netlink.Link, error) {
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
	if e.IP6.IsValid() {
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(e.IP6, net.Subnet6.Bits())), Flags: unix.IFA_F_NODAD}
		if err := h.AddrAdd(link, addr); err != nil {
			return nil, fmt.Errorf("address %s: %w", e.IP6, err)
		}
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
	return link, nil
}

// routeOut gives a sandbox its default routes, by the network that Attachment.GatewayPriority chooses for each family.
func (n *Networks) routeOut(sandbox string, h *netlink.Handle) error {
	for _, six := range []bool{false, true} {
		e, gateway := n.wayOut(sandbox, six)
		if e == nil {
			continue
		}
		link, err := h.LinkByName(e.Interface)
		if err != nil {
			return fmt.Errorf("look for %s inside the sandbox: %w", e.Interface, err)
		}
		if err := h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice()}); err != nil {
			return fmt.Errorf("default route by %s: %w", gateway, err)
		}
	}
	return nil
}

// wayOut is the endpoint whose network leads a sandbox outside, and its gateway; nil if none does.
func (n *Networks) wayOut(sandbox string, six bool) (best *Endpoint, gateway netip.Addr) {
	for key, e := range n.endpoints {
		net := n.networks[key.network]
		if key.sandbox != sandbox || net == nil || net.Internal || six && !e.IP6.IsValid() {
			continue
		}
		if best != nil && (e.Priority < best.Priority || e.Priority == best.Priority && e.Network > best.Network) {
			continue
		}
		if best, gateway = e, net.Gateway; six {
			gateway = net.Gateway6
		}
	}
	return best, gateway
}

// routeOutAfter chooses the default routes of a sandbox anew when it has left a network and lives on.
func (n *Networks) routeOutAfter(left *Endpoint) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e, _ := n.wayOut(left.Sandbox, false); e == nil || !pinned(left.NetnsPath) {
		return nil
	}
	ns, err := os.OpenFile(left.NetnsPath, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("open the sandbox's network namespace: %w", err)
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("enter the sandbox's network namespace: %w", err)
	}
	defer inside.Close()
	return n.routeOut(left.Sandbox, inside)
}

func permanent(index int, a netip.Addr, mac []byte) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: index, IP: a.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT, Family: netlink.FAMILY_V4}
}
