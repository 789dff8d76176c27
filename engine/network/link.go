// SPDX-License-Identifier: Apache-2.0

package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
)

func encode(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	return append(data, '\n'), err
}

// realize makes what a network needs in the kernel. It may be there already, whole or in part.
//
// A bridge network is a bridge that has the gateway's address. A routed network is the same link without ports, as the
// place of the gateway's address, and an unreachable route for the subnet, so that packets to an address that no endpoint
// has are refused at once instead of going out by the default route.
func (n *Networks) realize(net *Network) error {
	if net.Driver != DriverBridge && net.Driver != DriverRouted {
		return nil
	}
	if err := n.enableForwarding(); err != nil {
		return err
	}
	link, err := n.ensureBridge(net)
	if err != nil {
		return err
	}
	addr := netip.PrefixFrom(net.Gateway, net.Subnet.Bits())
	if net.Driver == DriverRouted {
		addr = netip.PrefixFrom(net.Gateway, 32)
	}
	if err := n.nl.AddrReplace(link, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("give %s to link %s: %w", addr, net.Bridge, err)
	}
	if net.Driver == DriverBridge && !net.Internal {
		// Connections to 127.0.0.1 are translated to the container; no packet from it may go there: see Rules.
		if err := setLinkSysctl("ipv4", net.Bridge, "route_localnet", "1"); err != nil {
			return err
		}
	}
	if net.IPv6 {
		if err := n.realize6(net, link); err != nil {
			return err
		}
	}
	if err := n.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring link %s up: %w", net.Bridge, err)
	}
	if net.Driver == DriverRouted {
		if err := n.nl.RouteReplace(unreachable(net.Subnet)); err != nil {
			return fmt.Errorf("add unreachable route for %s: %w", net.Subnet, err)
		}
	}
	n.serveNames(net)
	return nil
}

// realize6 gives a bridge its IPv6 gateway.
func (n *Networks) realize6(net *Network, link netlink.Link) error {
	for _, s := range [][2]string{{"disable_ipv6", "0"}, {"accept_dad", "0"}, {"accept_ra", "0"}, {"autoconf", "0"}} {
		if err := setLinkSysctl("ipv6", net.Bridge, s[0], s[1]); err != nil {
			return err
		}
	}
	if err := n.enableForwarding6(); err != nil {
		return err
	}
	addr := netip.PrefixFrom(net.Gateway6, net.Subnet6.Bits())
	if err := n.nl.AddrReplace(link, &netlink.Addr{IPNet: ipNet(addr), Flags: unix.IFA_F_NODAD}); err != nil {
		return fmt.Errorf("give %s to link %s: %w", addr, net.Bridge, err)
	}
	return nil
}

// enableForwarding6 turns the machine into an IPv6 router. A router ignores the advertisements of others, by which this
// machine may have its own default route; links that listen to them go on (accept_ra=2).
func (n *Networks) enableForwarding6() error {
	const conf = "/proc/sys/net/ipv6/conf/"
	now, err := os.ReadFile(conf + "all/forwarding")
	if err != nil {
		return errs.New(errs.Unsupported, "this kernel has no IPv6: %w", err)
	}
	if len(now) > 0 && now[0] == '1' {
		return nil
	}
	links, err := filepath.Glob(conf + "*/accept_ra")
	if err != nil {
		return err
	}
	for _, path := range links {
		if link := filepath.Base(filepath.Dir(path)); link == "all" || link == "default" { // links that come later are not ours to decide
			continue
		}
		if v, err := os.ReadFile(path); err == nil && v[0] == '1' {
			if err := os.WriteFile(path, []byte("2"), 0o644); err != nil {
				return fmt.Errorf("keep listening to router advertisements: %w", err)
			}
		}
	}
	n.log.Info("IPv6 forwarding was off on this machine; turning it on, because containers with IPv6 need it", "sysctl", "net.ipv6.conf.all.forwarding")
	if err := os.WriteFile(conf+"all/forwarding", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("turn on IPv6 forwarding: %w", err)
	}
	return nil
}

func unreachable(p netip.Prefix) *netlink.Route {
	return &netlink.Route{Dst: ipNet(p), Type: unix.RTN_UNREACHABLE}
}

func (n *Networks) ensureBridge(net *Network) (netlink.Link, error) {
	link, err := n.nl.LinkByName(net.Bridge)
	var missing netlink.LinkNotFoundError
	switch {
	case err == nil && link.Type() != "bridge":
		return nil, errs.New(errs.Conflict, "link %s exists and is a %s, no bridge", net.Bridge, link.Type())
	case err == nil:
		return link, nil
	case !errors.As(err, &missing):
		return nil, fmt.Errorf("look for link %s: %w", net.Bridge, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = net.Bridge, net.MTU
	attrs.HardwareAddr = hardwareAddr(net.Gateway) // else it would change with the ports
	if err := n.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return nil, fmt.Errorf("make bridge %s: %w", net.Bridge, err)
	}
	if err := setLinkSysctl("ipv6", net.Bridge, "disable_ipv6", "1"); err != nil {
		return nil, err
	}
	return n.nl.LinkByName(net.Bridge)
}

// unrealize undoes realize; what is missing already is no error.
func (n *Networks) unrealize(net *Network) error {
	n.stopNames(net.ID)
	if net.Driver == DriverRouted {
		if err := n.nl.RouteDel(unreachable(net.Subnet)); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove unreachable route for %s: %w", net.Subnet, err)
		}
	}
	if net.Bridge == "" {
		return nil
	}
	return deleteLink(n.nl, net.Bridge)
}

// enableForwarding turns the machine into a router, which it must be for containers to reach anything.
func (n *Networks) enableForwarding() error {
	const path = "/proc/sys/net/ipv4/ip_forward"
	now, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(now) > 0 && now[0] == '1' {
		return nil
	}
	n.log.Info("IPv4 forwarding was off on this machine; turning it on, because containers need it", "sysctl", "net.ipv4.ip_forward")
	if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
		return fmt.Errorf("turn on IPv4 forwarding: %w", err)
	}
	return nil
}

// setLinkSysctl sets net.<family>.conf.<link>.<key>. A kernel without the family has no such file, and needs none.
func setLinkSysctl(family, link, key, value string) error {
	path := filepath.Join("/proc/sys/net", family, "conf", link, key)
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set sysctl: %w", err)
	}
	return nil
}

// defaultMTU is that of the link with the default route: a larger one would make packets that cannot leave.
func (n *Networks) defaultMTU() int {
	const ethernet = 1500
	routes, err := n.nl.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return ethernet
	}
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if link, err := n.nl.LinkByIndex(r.LinkIndex); err == nil && link.Attrs().MTU > 0 {
			return link.Attrs().MTU
		}
	}
	return ethernet
}

// routedPrefixes lists what this machine has routes to, besides the default route.
func (n *Networks) routedPrefixes() ([]netip.Prefix, error) {
	routes, err := n.nl.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var out []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		a, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		if bits, _ := r.Dst.Mask.Size(); ok && bits > 0 {
			out = append(out, netip.PrefixFrom(a, bits))
		}
	}
	return out, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
