// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/vishvananda/netlink"

	"github.com/knarr/knarr/internal/errs"
)

// Published ports go on answering, by 127.0.0.1 too, while no daemon is there: the kernel does it. What a service listens for on
// 127.0.0.1 is still not reached from a container (CVE-2020-8558).
func TestLoopbackPortsAreTheKernelsAndNoWayIn(t *testing.T) {
	w := newWorld(t)
	w.must(w.n.EnsureDefaults(context.Background()))
	w.pods()
	a, pod := w.sandbox("a", "bridge", Port{HostIP: addr("127.0.0.1"), HostPort: 8087, ContainerPort: 80}), w.sandbox("pod", "pods", port(8088, 80, "tcp"))
	w.serve("", "host", "127.0.0.1:8099")
	for _, from := range []Endpoint{a, pod} {
		w.in(from.NetnsPath, func() { // what root in the container may do with NET_ADMIN
			for _, key := range []string{"all", from.Interface} {
				w.must(os.WriteFile("/proc/sys/net/ipv4/conf/"+key+"/route_localnet", []byte("1"), 0))
			}
			lo, _ := netlink.LinkByName("lo")
			netlink.AddrDel(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(127, 0, 0, 1), Mask: net.CIDRMask(8, 32)}})
			link, err := netlink.LinkByName(from.Interface)
			w.must(err)
			_, all, _ := net.ParseCIDR("127.0.0.0/8")
			w.must(netlink.RouteReplace(&netlink.Route{Dst: all, Gw: from.Gateway.AsSlice(), LinkIndex: link.Attrs().Index, Src: from.IP.AsSlice()}))
		})
		for _, to := range []string{"127.0.0.1:8099", "127.0.0.1:8087"} {
			w.expectSilence(from.Sandbox+" to "+to, w.ask(from.NetnsPath, "tcp4", to))
		}
	}
	w.n.Close()
	defer w.open()
	w.expect("published on 127.0.0.1, without us", w.ask("", "tcp4", "127.0.0.1:8087"), "a sees 172.17.0.1")
	if got := w.ask("", "tcp4", "127.0.0.1:8088"); !strings.HasPrefix(got, "pod sees ") || strings.Contains(got, "127.") {
		t.Errorf("a pod's port by 127.0.0.1: %q", got)
	}
}

// What an administrator's `nft flush ruleset` opens is closed again within a second (CVE-2025-54388, CVE-2025-54410).
func TestFlushedRulesAreBackWithinASecond(t *testing.T) {
	w := newWorld(t)
	ctx, stop := context.WithCancel(context.Background())
	w.must(w.n.EnsureDefaults(ctx))
	_, err := w.n.Create(ctx, Spec{Name: "other", IPv6: true})
	w.must(err)
	a, o := w.sandbox("a", "bridge", Port{HostIP: addr("127.0.0.1"), HostPort: 8090, ContainerPort: 80}), w.sandbox("o", "other")
	done := make(chan error)
	go func() { done <- w.n.Run(ctx) }()
	defer func() { stop(); w.must(<-done) }()
	for range 2 {
		flushRuleset(t)
		deadline := time.Now().Add(time.Second)
		for faults := []string{""}; len(faults) > 0; faults, err = w.n.Check() {
			if w.must(err); time.Now().After(deadline) {
				t.Fatal("the rules are not back after a second: ", faults)
			}
			<-time.After(10 * time.Millisecond)
		}
		w.expectSilence("o to a", w.ask(o.NetnsPath, "tcp4", a.IP.String()+":80"))
		w.expectSilence("outside to the loopback port", w.ask(w.outside, "tcp4", "198.51.100.1:8090"))
		w.expect("localhost", w.ask("", "tcp4", "127.0.0.1:8090"), "a sees 172.17.0.1")
	}
}

func TestDefaultRouteFollowsPriorityThenName(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	for _, s := range []Spec{{Name: "n1"}, {Name: "n2"}, {Name: "n0", Internal: true}, {Name: "n3"}} {
		_, err := w.n.Create(ctx, s)
		w.must(err)
	}
	ns := w.namespace("a")
	gateway := func() (out string) {
		w.in(ns, func() {
			routes, _ := netlink.RouteList(nil, netlink.FAMILY_V4)
			for _, r := range routes {
				if r.Gw != nil {
					out += r.Gw.String()
				}
			}
		})
		return out
	}
	at := map[string]Endpoint{}
	for _, step := range []struct {
		name     string
		priority int
		want     string
	}{{"n2", 0, "n2"}, {"n1", 0, "n1"}, {"n0", 9, "n1"}, {"n3", 1, "n3"}} {
		e, err := w.n.Attach(ctx, Attachment{Network: step.name, Sandbox: "a", NetnsPath: ns, GatewayPriority: step.priority})
		w.must(err)
		at[step.name] = e
		w.expect("after "+step.name, gateway(), at[step.want].Gateway.String())
	}
	for _, step := range [][2]string{{"n3", "n1"}, {"n1", "n2"}} {
		w.must(w.n.Detach(ctx, step[0], "a"))
		w.expect("without "+step[0], gateway(), at[step[1]].Gateway.String())
	}
}

func TestNamesOfLinksRenamesAndTheHost(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	_, err := w.n.Create(ctx, Spec{Name: "n"})
	w.must(err)
	db, err := w.n.Attach(ctx, Attachment{Network: "n", Sandbox: "db", NetnsPath: w.namespace("db"), Aliases: []string{"db"}, IP: addr("172.17.9.9")})
	w.must(err)
	web, err := w.n.Attach(ctx, Attachment{Network: "n", Sandbox: "web", NetnsPath: w.namespace("web"), Aliases: []string{"web"}, Links: map[string]string{"store": "db"}})
	w.must(err)
	w.expect("by its link", w.resolve(web, "udp", "store", mdns.TypeA), "NOERROR 172.17.9.9")
	if got := w.resolve(db, "udp", "store", mdns.TypeA); strings.Contains(got, "172.") {
		t.Errorf("another's link: %s", got)
	}
	w.must(w.n.Rename(ctx, "db", "db", "postgres"))
	w.expect("new name", w.resolve(web, "udp", "postgres", mdns.TypeA), "NOERROR 172.17.9.9")
	if got := w.resolve(web, "udp", "db", mdns.TypeA); strings.Contains(got, "172.") {
		t.Errorf("old name: %s", got)
	}
	w.n.Close()
	w.n, err = Open(Config{Name: "knt", Dir: filepath.Join(w.dir, "net"), RunDir: filepath.Join(w.dir, "run"), HostNames: netip.MustParseAddrPort("127.0.0.153:53")})
	w.must(err)
	host := Endpoint{NetnsPath: "", NameServer: addr("127.0.0.153")}
	w.expect("from the host", w.resolve(host, "udp", "postgres.n", mdns.TypeA), "NOERROR 172.17.9.9")
	w.expect("from the host, not ours", w.resolve(host, "tcp", "example.com", mdns.TypeA), "REFUSED")
}

func TestOptionsOfANetwork(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	prefix := netip.MustParsePrefix
	for _, bad := range []Spec{
		{Subnet: prefix("10.9.0.0/24"), Gateway: addr("10.8.0.1")},
		{Subnet: prefix("10.9.0.0/24"), IPRange: prefix("10.8.0.0/28")},
		{Subnet: prefix("10.9.0.0/24"), Reserved: map[string]netip.Addr{"x": addr("10.8.0.1")}},
		{Subnet6: prefix("fd00::/64")}, {LinkPrefix: "a/b"},
	} {
		bad.Name = "bad"
		_, err := w.n.Create(ctx, bad)
		w.must(err, errs.Invalid)
	}
	_, err := w.n.Create(ctx, Spec{Name: "bad", Bridge: "cable"})
	w.must(err, errs.Conflict)
	_, err = w.n.Create(ctx, Spec{Name: "n", Subnet: prefix("10.9.0.0/24"), IPRange: prefix("10.9.0.128/29"), Gateway: addr("10.9.0.254"), Bridge: "kntbr",
		Reserved: map[string]netip.Addr{"router": addr("10.9.0.128")}, Isolated: true, PublishOn: addr("127.0.0.1"), LinkPrefix: "net"})
	w.must(err)
	a, b := w.sandbox("a", "n", Port{HostPort: 8091, ContainerPort: 80}), w.sandbox("b", "n")
	w.expect("address", a.IP.String()+" "+a.Interface+" "+a.Ports[0].HostIP.String(), "10.9.0.129 net0 127.0.0.1")
	w.expect("host to a", w.ask("", "tcp4", "127.0.0.1:8091"), "a sees 10.9.0.254")
	w.expectSilence("outside to a", w.ask(w.outside, "tcp4", "198.51.100.1:8091"))
	w.expectSilence("b to a", w.ask(b.NetnsPath, "tcp4", "10.9.0.129:80"))
	mac, _ := net.ParseMAC("02:00:00:00:00:77")
	c, err := w.n.Attach(ctx, Attachment{Network: "n", Sandbox: "c", NetnsPath: w.namespace("c"), MAC: mac, Ports: []Port{{HostPort: 8091, HostPortEnd: 8093, ContainerPort: 80}}})
	w.must(err)
	w.in(c.NetnsPath, func() {
		link, err := netlink.LinkByName("net0")
		w.must(err)
		w.expect("MAC", link.Attrs().HardwareAddr.String(), mac.String())
	})
	if c.Ports[0].HostPort != 8092 {
		t.Errorf("port of a range: %d", c.Ports[0].HostPort)
	}
	_, err = w.n.Attach(ctx, Attachment{Network: "n", Sandbox: "d", NetnsPath: w.namespace("d"), Ports: []Port{{ContainerPort: 80, Protocol: "sctp"}}})
	w.must(err, errs.Unsupported)
	w.must(w.n.Remove(ctx, "n"), errs.Denied)
}
