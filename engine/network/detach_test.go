// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"net/netip"
	"testing"
)

// The link of a namespace that is gone is deleted behind the caller's back; whoever wants what it still holds waits for it.
func TestWhatALeavingEndpointHoldsIsGivenAwayWhenItsLinkIsGone(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	net, err := w.n.Create(ctx, Spec{Name: "tiny", Subnet: netip.MustParsePrefix("10.213.7.0/30")}) // room for one
	w.must(err)
	attach := func(sandbox string, ip netip.Addr) Endpoint {
		e, err := w.n.Attach(ctx, Attachment{Network: "tiny", Sandbox: sandbox, NetnsPath: w.namespace(sandbox), IP: ip})
		w.must(err)
		return e
	}
	leave := func(e Endpoint) {
		w.must(w.n.RemoveNamespace(e.NetnsPath))
		w.must(w.n.DetachAll(ctx, e.Sandbox))
		if list := w.n.Endpoints("tiny"); len(list) > 0 {
			t.Errorf("after DetachAll the network has %v", list)
		}
	}
	a := attach("a", netip.Addr{})
	leave(a)
	b := attach("b", netip.Addr{}) // the only address
	w.expect("address", b.IP.String(), a.IP.String())
	leave(b)
	leave(attach("c", a.IP)) // that very address
	c := attach("c", netip.Addr{})
	w.expect("interface of the same sandbox", c.Interface, "eth0")
	leave(c)
	w.must(w.n.Remove(ctx, net.ID))
	problems, err := w.n.Check()
	w.must(err)
	if len(problems) > 0 {
		t.Error(problems)
	}
}
