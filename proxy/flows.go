// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// flows says, per UDP address and port that clients send to, where its packets may go. A node port has no address here.
//
// UDP has no end of connection: the kernel keeps translating a client's packets as it did for the first one, also when that
// endpoint is gone or when there was none at first. So what changed is forgotten, and the next packet is decided anew.
type flows map[netip.AddrPort]map[netip.AddrPort]bool

func flowsOf(ports []servicePort) flows {
	out := flows{}
	for _, sp := range ports {
		if sp.protocol != "udp" {
			continue
		}
		to := make(map[netip.AddrPort]bool, len(sp.endpoints))
		for _, ep := range sp.endpoints {
			to[ep] = true
		}
		for _, list := range [][]netip.Addr{sp.clusterIPs, sp.externalIPs, sp.balancerIPs} {
			for _, a := range list {
				out[netip.AddrPortFrom(a, sp.port)] = to
			}
		}
		if sp.nodePort != 0 {
			out[netip.AddrPortFrom(netip.Addr{}, sp.nodePort)] = to
		}
	}
	return out
}

// stale returns those of now whose flows may lead elsewhere than now says: an endpoint went, or there was none before.
func stale(before, now flows) flows {
	out := flows{}
	for key, to := range now {
		old, known := before[key]
		gone := !known || len(old) == 0
		for ep := range old {
			gone = gone || !to[ep]
		}
		if gone {
			out[key] = to
		}
	}
	for key := range before {
		if _, ok := now[key]; !ok {
			out[key] = nil
		}
	}
	return out
}

// forgetStale deletes the kernel's entries of stale flows. Without conntrack entries there is nothing to do.
func forgetStale(before, now flows) error {
	s := stale(before, now)
	if len(s) == 0 {
		return nil
	}
	_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.FAMILY_V4, s)
	return err
}

// MatchConntrackFlow says whether an entry of the kernel is one to forget.
func (s flows) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if f.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	to, ok := s[netip.AddrPortFrom(address(f.Forward.DstIP), f.Forward.DstPort)]
	if translated := !f.Forward.DstIP.Equal(f.Reverse.SrcIP); !ok && translated {
		to, ok = s[netip.AddrPortFrom(netip.Addr{}, f.Forward.DstPort)] // not a flow to that port of some other machine
	}
	return ok && !to[netip.AddrPortFrom(address(f.Reverse.SrcIP), f.Reverse.SrcPort)]
}

func address(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
