// SPDX-License-Identifier: Apache-2.0

package network

import (
	"crypto/sha256"
	"encoding/base32"
	"net"
	"net/netip"
	"strings"

	"github.com/knarr/knarr/internal/errs"
)

// pool is where networks without a given subnet get one: the blocks that Docker uses, in its order.
func pool() []netip.Prefix {
	var out []netip.Prefix
	for b := byte(17); b < 32; b++ {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, b}), 16))
	}
	for c := 0; c < 256; c += 16 {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(c)}), 20))
	}
	return out
}

// freeSubnet returns the first of the pool that overlaps nothing in use.
func freeSubnet(used []netip.Prefix) (netip.Prefix, bool) {
next:
	for _, p := range pool() {
		for _, u := range used {
			if u.Overlaps(p) {
				continue next
			}
		}
		return p, true
	}
	return netip.Prefix{}, false
}

// freeSubnet6 returns the first /64 of the instance's range that overlaps nothing in use. The range is a /48 of RFC 4193,
// its 40 bits made from the instance's name: the same after a reboot, and another on most other machines.
func freeSubnet6(instance string, used []netip.Prefix) (netip.Prefix, bool) {
	sum := sha256.Sum256([]byte(instance))
next:
	for i := range 1 << 16 {
		b := [16]byte{0xfd, sum[0], sum[1], sum[2], sum[3], sum[4], byte(i >> 8), byte(i)}
		p := netip.PrefixFrom(netip.AddrFrom16(b), 64)
		for _, u := range used {
			if u.Overlaps(p) {
				continue next
			}
		}
		return p, true
	}
	return netip.Prefix{}, false
}

// address6 is the place in an IPv6 subnet that an IPv4 address has in its own: fd00::2 beside 172.18.0.2.
func address6(subnet6, subnet netip.Prefix, a netip.Addr) netip.Addr {
	b, base, at := subnet6.Masked().Addr().As16(), subnet.Masked().Addr().As4(), a.As4()
	for i := range base {
		b[12+i] |= at[i] &^ base[i]
	}
	return netip.AddrFrom16(b)
}

// nextAddress returns the first free address after last, going round: an address that was given back is given again as
// late as possible, because others may still remember it. The first and last address of the subnet and the gateway are
// never given.
//
// within is the part of the subnet that addresses are given from.
func nextAddress(subnet, within netip.Prefix, gateway, last netip.Addr, used map[netip.Addr]bool) (netip.Addr, error) {
	network, end, first := subnet.Masked().Addr(), lastAddress(subnet), within.Masked().Addr()
	if !within.Contains(last) {
		last = lastAddress(within)
	}
	a := last
	for {
		if a = a.Next(); !within.Contains(a) {
			a = first
		}
		if a != gateway && a != network && (a != end || a.Is6()) && !used[a] {
			return a, nil
		}
		if a == last {
			return netip.Addr{}, errs.New(errs.Unavailable, "no address is free in %s", within)
		}
	}
}

// lastAddress of a prefix is its broadcast address with IPv4.
func lastAddress(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// hardwareAddr derives a MAC from the address, so that neighbours' tables stay right when an address is used again.
func hardwareAddr(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
}

// routedMAC is the host's end of every routed link. Each such link has exactly two ends, so they may share it; this way the
// other end's neighbour entry is known without asking.
func routedMAC() net.HardwareAddr { return net.HardwareAddr{0x02, 'k', 'n', 'a', 'r', 'r'} }

// linkPrefix marks the links of an instance; they are "v", four letters of the instance, ten of the endpoint.
func linkPrefix(instance string) string { return "v" + short(4, instance) }

func linkName(instance, networkID, sandbox string) string {
	return linkPrefix(instance) + short(10, networkID, sandbox)
}

// bridgeName fits a link's 15 bytes: "<instance>0" for the default network, else instance and network as far as there is room.
func bridgeName(instance, network, id string) string {
	if len(instance) > 8 {
		instance = instance[:4] + short(4, instance)
	}
	if network == NameBridge {
		return instance + "0"
	}
	room := 15 - len(instance) - 1
	return instance + "-" + id[:min(room, len(id))]
}

func short(n int, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:n]
}
