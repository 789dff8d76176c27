// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/netnstest"
)

func TestContainersWithIPv6ReachEachOtherAndOutsideAndArePublished(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.in(w.outside, func() { w.must(setLinkSysctl("ipv6", "cable", "disable_ipv6", "0")) })
	netnstest.Address(t, "", "cable", "2001:db8::1/64")
	netnstest.Address(t, w.outside, "cable", "2001:db8::2/64")
	_, err := w.n.Create(ctx, Spec{Name: "six", IPv6: true, Subnet6: netip.MustParsePrefix("fd00:6::/64")})
	w.must(err)
	a, b := w.sandbox("a", "six", port(8086, 80, "tcp"), port(8086, 80, "udp")), w.sandbox("b", "six")
	w.expect("address", a.IP6.String(), "fd00:6::2")
	for range 3 { // the kernel joins the groups of neighbour discovery in a worker, a few milliseconds after the address is there
		if !strings.Contains(w.ask(b.NetnsPath, "tcp6", "[fd00:6::2]:80"), "timeout") {
			break
		}
	}
	w.expect("b to a", w.ask(b.NetnsPath, "tcp6", "[fd00:6::2]:80"), "a sees fd00:6::3")
	w.expect("host to a", w.ask("", "tcp6", "[fd00:6::2]:80"), "a sees fd00:6::1")
	w.serve(w.outside, "outside", ":80")
	w.expect("a to outside", w.ask(a.NetnsPath, "tcp6", "[2001:db8::2]:80"), "outside sees 2001:db8::1")
	for _, proto := range []string{"tcp6", "udp6"} {
		w.expect(proto+" from outside", w.ask(w.outside, proto, "[2001:db8::1]:8086"), "a sees 2001:db8::2")
		w.expect(proto+" by the host's address", w.ask("", proto, "[2001:db8::1]:8086"), "a sees 2001:db8::1")
		w.expect(proto+" from localhost", w.ask("", proto, "[::1]:8086"), "a sees fd00:6::1")
		w.expect(proto+" from the other container", w.ask(b.NetnsPath, proto, "[2001:db8::1]:8086"), "a sees fd00:6::1")
		w.expect(proto+" from itself", w.ask(a.NetnsPath, proto, "[2001:db8::1]:8086"), "a sees fd00:6::1")
	}
	e, err := w.n.Attach(ctx, Attachment{Network: "six", Sandbox: "c", NetnsPath: w.namespace("c"), IP6: addr("fd00:6::77"), Aliases: []string{"c"}})
	w.must(err)
	w.expect("AAAA", w.resolve(b, "udp", "c", mdns.TypeAAAA), "NOERROR fd00:6::77")
	w.expect("A", w.resolve(b, "udp", "c", mdns.TypeA), "NOERROR "+e.IP.String())
	_, err = w.n.Attach(ctx, Attachment{Network: "six", Sandbox: "d", NetnsPath: w.namespace("d"), IP6: addr("fd00:6::77")})
	w.must(err, errs.Conflict)

	// Other networks stay apart in this family too, and a restart changes nothing.
	_, err = w.n.Create(ctx, Spec{Name: "six2", IPv6: true})
	w.must(err)
	o := w.sandbox("o", "six2")
	if !strings.HasPrefix(o.IP6.String(), "fd") {
		t.Errorf("address %s is not of the instance's own range", o.IP6)
	}
	w.open()
	w.expectSilence("o to a", w.ask(o.NetnsPath, "tcp6", "[fd00:6::2]:80"))
	w.expect("from outside after a restart", w.ask(w.outside, "tcp6", "[2001:db8::1]:8086"), "a sees 2001:db8::2")
	if faults, err := w.n.Check(); err != nil || len(faults) > 0 {
		t.Error(faults, err)
	}
}

func TestFreeSubnet6AndAddress6(t *testing.T) {
	first, _ := freeSubnet6("x", nil)
	second, _ := freeSubnet6("x", []netip.Prefix{first})
	if first.Bits() != 64 || first == second || !strings.HasPrefix(first.String(), "fd") {
		t.Errorf("%s, then %s", first, second)
	}
	if got := address6(netip.MustParsePrefix("fd00::/64"), netip.MustParsePrefix("172.18.0.0/16"), addr("172.18.1.2")); got != addr("fd00::102") {
		t.Errorf("got %s", got)
	}
}
