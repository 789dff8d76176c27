// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/knarr/knarr/internal/nft"
)

// masqueradeMark is the bit of a packet's mark that says "take our address as the source"; the same one that kube-proxy uses.
const masqueradeMark = 0x4000

// Priorities: what has no endpoint is refused before it is translated, what was not translated after that.
const (
	beforeDNAT = nft.DstNAT - 10
	afterDNAT  = nft.DstNAT + 10
)

// Names in the table that more than one place uses. Per service port there are the chains svc-ID (all endpoints), local-ID
// (this node's), ext-ID (where traffic from outside comes in) and fw-ID (a load balancer's source ranges).
const (
	mapServices  = "service-ips"
	mapNodePorts = "service-nodeports"
	mapEmpty     = "no-endpoint-services"
	mapEmptyNode = "no-endpoint-nodeports"
	setClusterIP = "cluster-ips"
	setHairpin   = "hairpin"
)

// builder collects the table's maps while the service ports are walked.
type builder struct {
	f Facts
	t *nft.Table

	services, nodePorts, empty, emptyNode, clusterIPs, hairpin *nft.Set

	seen map[string]bool // "set key": what is in a set already
}

// table is the whole of what this node has for these service ports. It is pure: equal input gives an equal table.
func table(ports []servicePort, f Facts) *nft.Table {
	ipPort, port := nft.Type{nft.IPv4, nft.Proto, nft.Port}, nft.Type{nft.Proto, nft.Port}
	verdict := nft.Type{nft.Verdict}
	b := &builder{
		f: f, t: &nft.Table{}, seen: map[string]bool{},
		services:   &nft.Set{Name: mapServices, Key: ipPort, Value: verdict},
		nodePorts:  &nft.Set{Name: mapNodePorts, Key: port, Value: verdict},
		empty:      &nft.Set{Name: mapEmpty, Key: ipPort, Value: verdict},
		emptyNode:  &nft.Set{Name: mapEmptyNode, Key: port, Value: verdict},
		clusterIPs: &nft.Set{Name: setClusterIP, Key: nft.Type{nft.IPv4}},
		hairpin:    &nft.Set{Name: setHairpin, Key: nft.Type{nft.IPv4, nft.IPv4}},
	}
	b.t.Sets = []*nft.Set{b.services, b.nodePorts, b.empty, b.emptyNode, b.clusterIPs, b.hairpin}
	b.base()
	for i := range ports {
		b.port(&ports[i])
	}
	return b.t
}

// base makes the chains that do not depend on services.
func (b *builder) base() {
	t := b.t
	t.Chains = []*nft.Chain{
		{Name: "prerouting", Type: "nat", Hook: nft.Prerouting, Priority: nft.DstNAT},
		{Name: "output", Type: "nat", Hook: nft.Output, Priority: nft.DstNAT},
		{Name: "postrouting", Type: "nat", Hook: nft.Postrouting, Priority: nft.SrcNAT},
		{Name: "input-check", Type: "filter", Hook: nft.Input, Priority: beforeDNAT},
		{Name: "forward-check", Type: "filter", Hook: nft.Forward, Priority: beforeDNAT},
		{Name: "output-check", Type: "filter", Hook: nft.Output, Priority: beforeDNAT},
		{Name: "output-leftover", Type: "filter", Hook: nft.Output, Priority: afterDNAT},
	}
	t.Chain("prerouting").Add(nft.JumpTo("services"))
	t.Chain("output").Add(nft.JumpTo("services"))
	t.Chain("postrouting").Add(nft.HasMark(masqueradeMark), nft.ClearMark(masqueradeMark), nft.Masquerade())
	t.Chain("postrouting").Add(nft.InSet(setHairpin, nft.Saddr(), nft.Daddr()), nft.Masquerade())
	for _, c := range []string{"input-check", "forward-check", "output-check"} {
		t.Chain(c).Add(nft.CtState(nft.New), nft.JumpTo("endpoints-check"))
	}
	t.Chain("forward-check").Add(nft.CtState(nft.New), nft.JumpTo("leftover-check"))
	t.Chain("output-leftover").Add(nft.CtState(nft.New), nft.JumpTo("leftover-check"))

	ipPort := []nft.Selector{nft.Daddr(), nft.L4Proto(), nft.Dport()}
	port := []nft.Selector{nft.L4Proto(), nft.Dport()}
	local := []nft.Term{nft.DaddrLocal(), nft.IPDaddrNot(netip.MustParsePrefix("127.0.0.0/8"))}
	t.Chain("services").Add(nft.VMap(mapServices, ipPort...))
	t.Chain("services").Add(append(slices.Clone(local), nft.VMap(mapNodePorts, port...))...)
	t.Chain("endpoints-check").Add(nft.VMap(mapEmpty, ipPort...))
	t.Chain("endpoints-check").Add(append(slices.Clone(local), nft.VMap(mapEmptyNode, port...))...)
	// What is still addressed to a cluster IP here is a port or an address that no service has.
	t.Chain("leftover-check").Add(nft.DaddrLocal(), nft.Return())
	t.Chain("leftover-check").Add(nft.InSet(setClusterIP, nft.Daddr()), nft.GotoChain("refuse"))
	if b.f.ServiceCIDR.IsValid() {
		t.Chain("leftover-check").Add(nft.IPDaddr(b.f.ServiceCIDR), nft.GotoChain("refuse"))
	}
	// The kernel sends one client few ICMP errors per second, so a reset is the surer answer where there can be one.
	t.Chain("refuse").Add(nft.RejectReset())
	t.Chain("refuse").Add(nft.Reject())
	t.Chain("ignore").Add(nft.Drop())
}

func (b *builder) port(sp *servicePort) {
	for _, a := range sp.clusterIPs {
		b.add(b.clusterIPs, []nft.Value{nft.Addr(a)})
	}
	if len(sp.endpoints) == 0 {
		b.refuse(sp)
		return
	}
	for _, ep := range sp.endpoints {
		b.add(b.hairpin, []nft.Value{nft.Addr(ep.Addr()), nft.Addr(ep.Addr())})
	}
	b.cluster(sp)
	b.external(sp)
}

// refuse answers a service without endpoints at once, so that clients need not wait for a time-out.
func (b *builder) refuse(sp *servicePort) {
	for _, list := range [][]netip.Addr{sp.clusterIPs, sp.externalIPs, sp.balancerIPs} {
		for _, a := range list {
			b.add(b.empty, []nft.Value{nft.Addr(a), nft.Protocol(sp.protocol), nft.PortNumber(sp.port)}, nft.Goto("refuse"))
		}
	}
	if sp.nodePort != 0 {
		b.add(b.emptyNode, []nft.Value{nft.Protocol(sp.protocol), nft.PortNumber(sp.nodePort)}, nft.Goto("refuse"))
	}
}

// cluster makes the way by the cluster IP.
func (b *builder) cluster(sp *servicePort) {
	entry := "svc-" + sp.id
	c := b.t.Chain(entry)
	b.markStrangers(c)
	b.choose(c, sp, sp.endpoints)
	if sp.internalLocal {
		entry = b.localChain(sp)
	}
	for _, a := range sp.clusterIPs {
		b.add(b.services, []nft.Value{nft.Addr(a), nft.Protocol(sp.protocol), nft.PortNumber(sp.port)}, nft.Goto(entry))
	}
}

// markStrangers masquerades what comes from neither a pod nor this machine: the endpoint's answer would else take another way.
func (b *builder) markStrangers(c *nft.Chain) {
	if b.f.ClusterCIDR.IsValid() {
		c.Add(nft.IPSaddrNot(b.f.ClusterCIDR), nft.SaddrNotLocal(), nft.SetMark(masqueradeMark))
	}
}

// localChain reaches this node's endpoints only, and nobody if there is none.
func (b *builder) localChain(sp *servicePort) string {
	if len(sp.local) == 0 {
		return "ignore"
	}
	name := "local-" + sp.id
	if c := b.t.Chain(name); len(c.Rules) == 0 {
		b.choose(c, sp, sp.local)
	}
	return name
}

// external makes the ways by node port, load balancer and external IP.
func (b *builder) external(sp *servicePort) {
	if sp.nodePort == 0 && len(sp.externalIPs) == 0 && len(sp.balancerIPs) == 0 {
		return
	}
	entry := "ext-" + sp.id
	c := b.t.Chain(entry)
	if sp.externalLocal {
		// Pods and this machine are inside: the policy, made to keep a client's address, is not about them.
		if b.f.ClusterCIDR.IsValid() {
			c.Add(nft.IPSaddr(b.f.ClusterCIDR), nft.GotoChain("svc-"+sp.id))
		}
		c.Add(nft.SaddrLocal(), nft.SetMark(masqueradeMark))
		c.Add(nft.SaddrLocal(), nft.GotoChain("svc-"+sp.id))
		c.Add(nft.GotoChain(b.localChain(sp)))
	} else {
		c.Add(nft.SetMark(masqueradeMark))
		c.Add(nft.GotoChain("svc-" + sp.id))
	}
	if sp.nodePort != 0 {
		b.add(b.nodePorts, []nft.Value{nft.Protocol(sp.protocol), nft.PortNumber(sp.nodePort)}, nft.Goto(entry))
	}
	for _, a := range sp.externalIPs {
		b.add(b.services, []nft.Value{nft.Addr(a), nft.Protocol(sp.protocol), nft.PortNumber(sp.port)}, nft.Goto(entry))
	}
	if len(sp.sources) > 0 && len(sp.balancerIPs) > 0 {
		fw := b.t.Chain("fw-" + sp.id)
		for _, s := range sp.sources {
			fw.Add(nft.IPSaddr(s), nft.GotoChain(entry))
		}
		fw.Add(nft.Drop())
		entry = fw.Name
	}
	for _, a := range sp.balancerIPs {
		b.add(b.services, []nft.Value{nft.Addr(a), nft.Protocol(sp.protocol), nft.PortNumber(sp.port)}, nft.Goto(entry))
	}
}

// choose ends a chain in one of the endpoints. With session affinity each endpoint has a set of the clients that it served
// last; a set that goes with its endpoint frees its clients.
func (b *builder) choose(c *nft.Chain, sp *servicePort, list []netip.AddrPort) {
	if sp.affinity == 0 {
		c.Add(nft.DNATRandom(list))
		return
	}
	chains := make([]string, len(list))
	for i, ep := range list {
		name := fmt.Sprintf("%s/%s/%d", sp.id, ep.Addr(), ep.Port())
		chains[i] = "ep-" + name
		set := "clients-" + name
		c.Add(nft.InSet(set, nft.Saddr()), nft.GotoChain(chains[i]))
		if ch := b.t.Chain(chains[i]); len(ch.Rules) == 0 {
			b.t.Sets = append(b.t.Sets, &nft.Set{Name: set, Key: nft.Type{nft.IPv4}, Dynamic: true, Timeout: sp.affinity})
			ch.Add(nft.Update(set, sp.affinity, nft.Saddr()), nft.DNAT(ep))
		}
	}
	c.Add(nft.GotoRandom(chains))
}

// add puts an element into a set unless its key is there: of two services that claim one address and port, the first by
// name has it.
func (b *builder) add(m *nft.Set, key []nft.Value, to ...nft.Value) {
	text := m.Name + " " + nft.Element{Key: key}.String()
	if !b.seen[text] {
		b.seen[text] = true
		m.Elements = append(m.Elements, nft.Element{Key: key, Value: to})
	}
}
