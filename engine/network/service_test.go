// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"net/netip"
	"testing"

	"github.com/knarr/knarr/internal/nft"
)

// A pod reaches another pod of its node by a cluster IP, and sees its answer come from there, whether or not bridged packets
// pass netfilter: the reason why pods have routed links (docs/decisions/020-pod-links.md). On a bridge network it takes
// masquerading.
func TestTranslatedAddressOfAPodOnTheSameNode(t *testing.T) {
	for _, nf := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+nf, func(t *testing.T) {
			w := newWorld(t)
			w.bridgeNetfilter(nf)
			w.pods()
			w.must(w.n.EnsureDefaults(context.Background()))
			for _, c := range []struct{ network, seen string }{{"pods", ""}, {"bridge", "172.17.0.1"}} {
				a, b := w.sandbox("a-"+c.network, c.network), w.sandbox("b-"+c.network, c.network)
				translate(w, a.IP)
				if c.seen == "" {
					c.seen = b.IP.String()
				}
				want := "a-" + c.network + " sees " + c.seen
				for _, proto := range []string{"tcp4", "udp4"} {
					w.expect(c.network+" by "+proto, w.ask(b.NetnsPath, proto, "10.43.0.20:80"), want)
				}
			}
		})
	}
}

// translate does what the service proxy does.
func translate(w *world, to netip.Addr) {
	w.t.Helper()
	o := nft.NewOwner("knt-proxy")
	w.t.Cleanup(func() { o.Remove() })
	tab := &nft.Table{Chains: []*nft.Chain{{Name: "prerouting", Type: "nat", Hook: nft.Prerouting, Priority: nft.DstNAT}}}
	tab.Chain("prerouting").Add(nft.IPDaddr(netip.MustParsePrefix("10.43.0.20/32")), nft.TCPUDP("tcp"), nft.DNAT(netip.AddrPortFrom(to, 80)))
	tab.Chain("prerouting").Add(nft.IPDaddr(netip.MustParsePrefix("10.43.0.20/32")), nft.TCPUDP("udp"), nft.DNAT(netip.AddrPortFrom(to, 80)))
	w.must(o.Apply(tab))
}
