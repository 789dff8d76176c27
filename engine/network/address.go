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

// nextAddress returns the first free address after last, going round: an address that was given back is given again as
// late as possible, because others may still remember it. The first and last address of the subnet and the gateway are
// never given.
func nextAddress(subnet netip.Prefix, gateway, last netip.Addr, used map[netip.Addr]bool) (netip.Addr, error) {
	first, end := subnet.Masked().Addr(), broadcast(subnet)
	if !subnet.Contains(last) {
		last = first
	}
	a := last
	for {
		if a = a.Next(); a == end || !subnet.Contains(a) {
			a = first.Next()
		}
		if a != gateway && !used[a] {
			return a, nil
		}
		if a == last || (last == first && a.Next() == end) {
			return netip.Addr{}, errs.New(errs.Unavailable, "no address is free in %s", subnet)
		}
	}
}

func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
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
