// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net/netip"

	"github.com/knarr/knarr/internal/nft"
)

var (
	loopback4    = netip.MustParsePrefix("127.0.0.0/8")
	loopback6    = netip.PrefixFrom(netip.IPv6Loopback(), 128)
	toHostPort   = nft.Type{nft.Proto, nft.Port}
	toHostIPPort = nft.Type{nft.IPv4, nft.Proto, nft.Port}
	toContainer  = nft.Type{nft.IPv4, nft.Port}

	toHostIPPort6 = nft.Type{nft.IPv6, nft.Proto, nft.Port}
	toContainer6  = nft.Type{nft.IPv6, nft.Port}
)

// Rules is the whole nftables table of the ip family for these networks and endpoints; pods is how the names of routed links
// begin.
//
// Attaching a container without published ports changes nothing in it: all rules are per network, and ports are elements
// of two maps. Connections of this machine to 127.0.0.0/8 are translated like all others, which takes route_localnet on
// our own bridges and links; in return the chain guard drops every packet that comes from one of them and is addressed there,
// before anything can translate it (CVE-2020-8558). On all other links the kernel itself refuses such packets.
func Rules(pods string, networks []Network, endpoints []Endpoint) *nft.Table {
	p := newPublished(nft.IP)
	for _, e := range endpoints {
		p.add(e, e.IP)
	}
	t := p.table()
	t.Chains = append(t.Chains, &nft.Chain{Name: "guard", Type: "filter", Hook: nft.Prerouting, Priority: nft.Raw})
	toPublished := []nft.Term{nft.DaddrLocal(), nft.JumpTo("publish")}
	t.Chain("prerouting").Add(append([]nft.Term{nft.IPDaddrNot(loopback4)}, toPublished...)...)
	t.Chain("output").Add(toPublished...)
	t.Chain("publish").Add(nft.DNATMap("published-on", nft.Daddr(), nft.L4Proto(), nft.Dport()))
	t.Chain("publish").Add(nft.DNATMap("published", nft.L4Proto(), nft.Dport()))

	forward, post, guard := t.Chain("forward"), t.Chain("postrouting"), t.Chain("guard")
	forward.Add(nft.CtState(nft.Established|nft.Related), nft.Accept())
	// A sandbox that reaches itself through its published port must not see its own address as the source.
	post.Add(nft.InSet("hairpin", nft.Saddr(), nft.Daddr()), nft.Masquerade())
	for _, net := range networks {
		switch net.Driver {
		case DriverBridge:
			guard.Add(nft.Iif(net.Bridge), nft.IPDaddr(loopback4), nft.Drop())
			isolate(forward, net)
			post.Add(nft.Oif(net.Bridge), nft.IPSaddr(loopback4), nft.Masquerade())
			// Without the host's address as the source, the answer would take the short way across the bridge and miss
			// the translation back.
			post.Add(nft.IPSaddr(net.Subnet), nft.IPDaddr(net.Subnet), nft.CtDNAT(), nft.Masquerade())
			masquerade(post, net, net.Subnet)
		case DriverRouted:
			guard.Add(nft.Iif(pods+"*"), nft.IPDaddr(loopback4), nft.Drop())
			post.Add(nft.Oif(pods+"*"), nft.IPSaddr(loopback4), nft.Masquerade())
			masquerade(post, net, net.Subnet)
		}
	}
	return t
}

// Rules6 is the table of the ip6 family. Networks without IPv6 have no place in it: their links carry none. ::1 is left to
// our own sockets (see publication): the kernel never routes it.
func Rules6(networks []Network, endpoints []Endpoint) *nft.Table {
	p := newPublished(nft.IP6)
	for _, e := range endpoints {
		if e.IP6.IsValid() {
			p.add(e, e.IP6)
		}
	}
	t := p.table()
	for _, chain := range []string{"prerouting", "output"} {
		t.Chain(chain).Add(nft.DaddrLocal(), nft.IPDaddrNot(loopback6), nft.JumpTo("publish"))
	}
	t.Chain("publish").Add(nft.DNATMap6("published-on", nft.Daddr6(), nft.L4Proto(), nft.Dport()))
	t.Chain("publish").Add(nft.DNATMap6("published", nft.L4Proto(), nft.Dport()))
	forward, post := t.Chain("forward"), t.Chain("postrouting")
	forward.Add(nft.CtState(nft.Established|nft.Related), nft.Accept())
	post.Add(nft.InSet("hairpin", nft.Saddr6(), nft.Daddr6()), nft.Masquerade())
	for _, net := range networks {
		if !net.IPv6 {
			continue
		}
		isolate(forward, net)
		post.Add(nft.IPSaddr(net.Subnet6), nft.IPDaddr(net.Subnet6), nft.CtDNAT(), nft.Masquerade())
		masquerade(post, net, net.Subnet6)
	}
	return t
}

// published is the maps of ports, of one family.
type published struct {
	family                nft.Family
	anyIP, oneIP, hairpin *nft.Set
}

func newPublished(f nft.Family) *published {
	addr, onePort, container := nft.IPv4, toHostIPPort, toContainer
	if f == nft.IP6 {
		addr, onePort, container = nft.IPv6, toHostIPPort6, toContainer6
	}
	return &published{
		family:  f,
		anyIP:   &nft.Set{Name: "published", Key: toHostPort, Value: container},
		oneIP:   &nft.Set{Name: "published-on", Key: onePort, Value: container},
		hairpin: &nft.Set{Name: "hairpin", Key: nft.Type{addr, addr}},
	}
}

func (p *published) table() *nft.Table {
	return &nft.Table{Family: p.family, Sets: []*nft.Set{p.anyIP, p.oneIP, p.hairpin}, Chains: []*nft.Chain{
		{Name: "prerouting", Type: "nat", Hook: nft.Prerouting, Priority: nft.DstNAT},
		{Name: "output", Type: "nat", Hook: nft.Output, Priority: nft.DstNAT},
		{Name: "forward", Type: "filter", Hook: nft.Forward, Priority: nft.Filter},
		{Name: "postrouting", Type: "nat", Hook: nft.Postrouting, Priority: nft.SrcNAT},
	}}
}

// add publishes an endpoint's ports at the address that it has in this family.
func (p *published) add(e Endpoint, at netip.Addr) {
	for _, port := range e.Ports {
		to := []nft.Value{nft.Addr(at), nft.PortNumber(port.ContainerPort)}
		from := []nft.Value{nft.Protocol(port.Protocol), nft.PortNumber(port.HostPort)}
		switch host := port.HostIP; {
		case !host.IsValid() || host == netip.IPv4Unspecified() || host == netip.IPv6Unspecified() && at.Is6():
			p.anyIP.Elements = append(p.anyIP.Elements, nft.Element{Key: from, Value: to})
		case host.Is4() == at.Is4() && !host.IsUnspecified() && host != netip.IPv6Loopback():
			p.oneIP.Elements = append(p.oneIP.Elements, nft.Element{Key: append([]nft.Value{nft.Addr(host)}, from...), Value: to})
		}
	}
	if len(e.Ports) > 0 {
		p.hairpin.Elements = append(p.hairpin.Elements, nft.Element{Key: []nft.Value{nft.Addr(at), nft.Addr(at)}})
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

func masquerade(c *nft.Chain, net Network, subnet netip.Prefix) {
	if net.MasqueradeOff || net.Internal {
		return
	}
	c.Add(nft.IPSaddr(subnet), nft.IPDaddr(subnet), nft.Return())
	for _, p := range net.NoMasquerade {
		if p.Addr().Is4() == subnet.Addr().Is4() {
			c.Add(nft.IPSaddr(subnet), nft.IPDaddr(p), nft.Return())
		}
	}
	c.Add(nft.IPSaddr(subnet), nft.Masquerade())
}
