// SPDX-License-Identifier: Apache-2.0

// Package route leads packets for other nodes' pods to those nodes: one route in the main table for each part of the pod
// addresses, by way of its node's address. Nothing is encapsulated and nothing is translated, so the nodes must be neighbours
// on a link, or the network between them must know the same routes.
//
// It owns the routes with the protocol number Protocol whose destination lies in the cluster's pod addresses; it touches no
// other route, and brings its own back when somebody removes them. Plan is pure.
//
// Goroutines: Run's own, one that reads netlink, one that reads changes of nodes; all end with Run. No files.
package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/backoff"
)

// Protocol marks our routes (rtnetlink(7), rtm_protocol; up to 4 are the kernel's, the ones that routing daemons use are in
// iproute2's rt_protos).
const Protocol = 75

// Route is one way: to the pods of a node, by its address.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// Plan is the routes that the node self needs for the pods of the others.
func Plan(nodes []*corev1.Node, self string, cluster netip.Prefix) []Route {
	var out []Route
	for _, n := range nodes {
		if n.Name == self {
			continue
		}
		for _, c := range n.Spec.PodCIDRs {
			to, err := netip.ParsePrefix(c)
			if err != nil || !cluster.Contains(to.Addr()) || to.Bits() < cluster.Bits() {
				continue // somebody else's range is somebody else's to route
			}
			if via, ok := address(n, to.Addr().Is4()); ok {
				out = append(out, Route{to.Masked(), via})
			}
		}
	}
	return out
}

// address is the first internal address of a node in the family.
func address(n *corev1.Node, v4 bool) (netip.Addr, bool) {
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); a.Type == corev1.NodeInternalIP && err == nil && ip.Is4() == v4 {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// Apply makes our routes in cluster those of want. What cannot be made is in the error; the others are made.
func Apply(cluster netip.Prefix, want []Route) error {
	have, err := installed(cluster)
	if err != nil {
		return err
	}
	var failed []error
	for _, r := range want {
		if have[r.To] == r.Via {
			delete(have, r.To)
			continue
		}
		delete(have, r.To)
		if err := netlink.RouteReplace(r.kernel()); err != nil {
			failed = append(failed, fmt.Errorf("route to %s by %s: %w (are the nodes on one link?)", r.To, r.Via, err))
		}
	}
	for to, via := range have {
		if err := netlink.RouteDel(Route{to, via}.kernel()); err != nil && !errors.Is(err, unix.ESRCH) {
			failed = append(failed, fmt.Errorf("remove the route to %s: %w", to, err))
		}
	}
	return errors.Join(failed...)
}

func (r Route) kernel() *netlink.Route {
	return &netlink.Route{
		Dst: &net.IPNet{IP: r.To.Addr().AsSlice(), Mask: net.CIDRMask(r.To.Bits(), r.To.Addr().BitLen())},
		Gw:  r.Via.AsSlice(), Protocol: Protocol, Table: unix.RT_TABLE_MAIN,
	}
}

// installed lists our routes in cluster.
func installed(cluster netip.Prefix) (map[netip.Prefix]netip.Addr, error) {
	family := netlink.FAMILY_V4
	if cluster.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	list, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: Protocol, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	out := map[netip.Prefix]netip.Addr{}
	for _, r := range list {
		if r.Dst == nil {
			continue
		}
		ip, _ := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		via, _ := netip.AddrFromSlice(r.Gw)
		if to := netip.PrefixFrom(ip.Unmap(), bits); cluster.Contains(to.Addr()) && to.Bits() >= cluster.Bits() {
			out[to] = via.Unmap()
		}
	}
	return out, nil
}

// Run keeps the routes as want says until ctx ends; they stay then, as the pods do. changed has a token after each change of
// what want would say.
func Run(ctx context.Context, cluster netip.Prefix, changed <-chan struct{}, want func() []Route, log *slog.Logger) error {
	updates, done := make(chan netlink.RouteUpdate, 64), make(chan struct{})
	defer close(done)
	if err := netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{
		ErrorCallback: func(err error) { log.Debug("read changes of routes", "err", err) },
	}); err != nil {
		return fmt.Errorf("watch routes: %w", err)
	}
	pause := backoff.Pause{First: time.Second, Max: time.Minute}
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-retry.C:
		case u, ok := <-updates:
			if !ok {
				return errors.New("the kernel's news of routes broke off")
			}
			if u.Type != unix.RTM_DELROUTE || u.Protocol != Protocol {
				continue
			}
		}
		if err := Apply(cluster, want()); err != nil {
			log.Warn("some pods of other nodes cannot be reached; trying again", "err", err)
			retry.Reset(pause.Next())
			continue
		}
		pause.Reset()
	}
}
