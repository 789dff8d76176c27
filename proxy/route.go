// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol marks our route, so that Remove takes no other.
const routeProtocol = 107 // 'k'; above what rtnetlink(7) reserves

// ensureRoute gives the machine's own processes a way to cluster IPs. The kernel wants a route before it asks netfilter;
// usually the default route is one. Without any, connect(2) fails with "network is unreachable", so there is a route by lo,
// which translation replaces.
func ensureRoute(f Facts) error {
	if !f.ServiceCIDR.IsValid() || !f.NodeIP.IsValid() {
		return nil
	}
	_, err := netlink.RouteGet(f.ServiceCIDR.Addr().AsSlice())
	if !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) {
		return nil
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("route to services: %w", err)
	}
	r := serviceRoute(f)
	r.LinkIndex, r.Src = lo.Attrs().Index, f.NodeIP.AsSlice()
	if err := netlink.RouteReplace(r); err != nil {
		return fmt.Errorf("add route to services %s: %w", f.ServiceCIDR, err)
	}
	return nil
}

func removeRoute(f Facts) error {
	if !f.ServiceCIDR.IsValid() {
		return nil
	}
	if err := netlink.RouteDel(serviceRoute(f)); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove route to services %s: %w", f.ServiceCIDR, err)
	}
	return nil
}

func serviceRoute(f Facts) *netlink.Route {
	p := f.ServiceCIDR.Masked()
	dst := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
	return &netlink.Route{Dst: dst, Protocol: routeProtocol, Scope: netlink.SCOPE_LINK}
}
