// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net/netip"

	"github.com/knarr/knarr/internal/nft"
)

var (
	loopback4    = netip.MustParsePrefix("127.0.0.0/8")
	toHostPort   = nft.Type{nft.Proto, nft.Port}
	toHostIPPort = nft.Type{nft.IPv4, nft.Proto, nft.Port}
	toContainer  = nft.Type{nft.IPv4, nft.Port}
)

// Rules is the whole nftables table for these networks and endpoints.
//
// Attaching a container without published ports changes nothing in it: all rules are per network, and ports are elements
// of two maps. Connections to 127.0.0.0/8 are never translated: a socket of ours serves them (see publication), so that the
// kernel keeps refusing to route loopback addresses (CVE-2020-8558).
func Rules(networks []Network, endpoints []Endpoint) *nft.Table {
	anyIP := &nft.Set{Name: "published", Key: toHostPort, Value: toContainer}
	oneIP := &nft.Set{Name: "published-on", Key: toHostIPPort, Value: toContainer}
	hairpin := &nft.Set{Name: "hairpin", Key: nft.Type{nft.IPv4, nft.IPv4}}
	for _, e := range endpoints {
		publish(e, anyIP, oneIP)
		if len(e.Ports) > 0 {
			hairpin.Elements = append(hairpin.Elements, nft.Element{Key: []nft.Value{nft.Addr(e.IP), nft.Addr(e.IP)}})
		}
	}
	t := &nft.Table{Sets: []*nft.Set{anyIP, oneIP, hairpin}, Chains: []*nft.Chain{
		{Name: "prerouting", Type: "nat", Hook: nft.Prerouting, Priority: nft.DstNAT},
		{Name: "output", Type: "nat", Hook: nft.Output, Priority: nft.DstNAT},
		{Name: "forward", Type: "filter", Hook: nft.Forward, Priority: nft.Filter},
		{Name: "postrouting", Type: "nat", Hook: nft.Postrouting, Priority: nft.SrcNAT},
	}}
	local := []nft.Term{nft.DaddrLocal(), nft.IPDaddrNot(loopback4), nft.JumpTo("publish")}
	t.Chain("prerouting").Add(local...)
	t.Chain("output").Add(local...)
	t.Chain("publish").Add(nft.DNATMap("published-on", nft.Daddr(), nft.L4Proto(), nft.Dport()))
	t.Chain("publish").Add(nft.DNATMap("published", nft.L4Proto(), nft.Dport()))

	forward, post := t.Chain("forward"), t.Chain("postrouting")
	forward.Add(nft.CtState(nft.Established|nft.Related), nft.Accept())
	// A sandbox that reaches itself through its published port must not see its own address as the source.
	post.Add(nft.InSet("hairpin", nft.Saddr(), nft.Daddr()), nft.Masquerade())
	for _, net := range networks {
		switch net.Driver {
		case DriverBridge:
			isolate(forward, net)
			// Without the host's address as the source, the answer would take the short way across the bridge and miss
			// the translation back.
			post.Add(nft.IPSaddr(net.Subnet), nft.IPDaddr(net.Subnet), nft.CtDNAT(), nft.Masquerade())
			masquerade(post, net)
		case DriverRouted:
			masquerade(post, net)
		}
	}
	return t
}

func publish(e Endpoint, anyIP, oneIP *nft.Set) {
	for _, p := range e.Ports {
		to := []nft.Value{nft.Addr(e.IP), nft.PortNumber(p.ContainerPort)}
		from := []nft.Value{nft.Protocol(p.Protocol), nft.PortNumber(p.HostPort)}
		switch {
		case !p.HostIP.IsValid() || p.HostIP == netip.IPv4Unspecified():
			anyIP.Elements = append(anyIP.Elements, nft.Element{Key: from, Value: to})
		case p.HostIP.Is4() && !p.HostIP.IsLoopback():
			oneIP.Elements = append(oneIP.Elements, nft.Element{Key: append([]nft.Value{nft.Addr(p.HostIP)}, from...), Value: to})
		}
	}
}

// isolate lets in only what was published, and keeps an internal network's traffic inside.
func isolate(c *nft.Chain, net Network) {
	c.Add(nft.Iif(net.Bridge), nft.Oif(net.Bridge), nft.Accept())
	if net.Internal {
		c.Add(nft.Iif(net.Bridge), nft.Drop())
		c.Add(nft.Oif(net.Bridge), nft.Drop())
		return
	}
	c.Add(nft.Oif(net.Bridge), nft.CtDNAT(), nft.Accept())
	c.Add(nft.Oif(net.Bridge), nft.Drop())
}

func masquerade(c *nft.Chain, net Network) {
	if net.MasqueradeOff || net.Internal {
		return
	}
	for _, p := range append([]netip.Prefix{net.Subnet}, net.NoMasquerade...) {
		c.Add(nft.IPSaddr(net.Subnet), nft.IPDaddr(p), nft.Return())
	}
	c.Add(nft.IPSaddr(net.Subnet), nft.Masquerade())
}
