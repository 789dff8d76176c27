// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/netnstest"
)

func TestBridgedContainersReachEachOtherTheHostAndOutside(t *testing.T) {
	w := newWorld(t)
	w.must(w.n.EnsureDefaults(context.Background()))
	a, b := w.sandbox("a", "bridge"), w.sandbox("b", "bridge")
	w.expect("first address", a.IP.String(), "172.17.0.2")
	w.expect("host to a", w.ask("", "tcp4", a.IP.String()+":80"), "a sees 172.17.0.1")
	w.expect("b to a", w.ask(b.NetnsPath, "tcp4", a.IP.String()+":80"), "a sees "+b.IP.String())
	w.serve(w.outside, "outside", ":80")
	w.expect("a to outside", w.ask(a.NetnsPath, "tcp4", "198.51.100.2:80"), "outside sees 198.51.100.1")
	w.serve("", "host", "198.51.100.1:80")
	w.expect("a to the host", w.ask(a.NetnsPath, "tcp4", "198.51.100.1:80"), "host sees "+a.IP.String())
}

// A published port is reached from everywhere, whether or not bridged packets pass netfilter.
func TestPublishedPorts(t *testing.T) {
	for _, nf := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+nf, func(t *testing.T) {
			w := newWorld(t)
			w.bridgeNetfilter(nf)
			w.must(w.n.EnsureDefaults(context.Background()))
			a := w.sandbox("a", "bridge", port(8080, 80, "tcp"), port(8080, 80, "udp"))
			b := w.sandbox("b", "bridge")
			for _, proto := range []string{"tcp", "udp"} {
				w.expect(proto+" from outside", w.ask(w.outside, proto+"4", "198.51.100.1:8080"), "a sees 198.51.100.2")
				w.expect(proto+" from the host by its address", w.ask("", proto+"4", "198.51.100.1:8080"), "a sees 198.51.100.1")
				w.expect(proto+" from localhost", w.ask("", proto+"4", "127.0.0.1:8080"), "a sees 172.17.0.1")
				w.expect(proto+" from localhost by IPv6", w.ask("", proto+"6", "[::1]:8080"), "a sees 172.17.0.1")
				w.expect(proto+" from the other container", w.ask(b.NetnsPath, proto+"4", "198.51.100.1:8080"), "a sees 172.17.0.1")
				w.expect(proto+" from itself", w.ask(a.NetnsPath, proto+"4", "198.51.100.1:8080"), "a sees 172.17.0.1")
			}
			w.must(w.n.Detach(context.Background(), "bridge", "a"))
			w.expectSilence("after detaching", w.ask(w.outside, "tcp4", "198.51.100.1:8080"))
			l, err := net.Listen("tcp4", ":8080")
			w.must(err) // the port is free again
			l.Close()
		})
	}
}

func TestPortPublishedOnLoopbackIsNotReachedFromOutside(t *testing.T) {
	w := newWorld(t)
	w.must(w.n.EnsureDefaults(context.Background()))
	e := w.sandbox("a", "bridge", Port{HostIP: addr("127.0.0.1"), HostPort: 8081, ContainerPort: 80})
	w.expect("from localhost", w.ask("", "tcp4", "127.0.0.1:8081"), "a sees 172.17.0.1")
	w.expectSilence("from outside by the host's address", w.ask(w.outside, "tcp4", "198.51.100.1:8081"))
	// A neighbour may route anything to us (CVE-2020-8558, CVE-2025-54388).
	w.in(w.outside, func() {
		for _, dst := range []string{"127.0.0.0/8", "172.17.0.0/16"} {
			_, ipnet, _ := net.ParseCIDR(dst)
			if dst == "127.0.0.0/8" {
				lo, _ := netlink.LinkByName("lo")
				netlink.AddrDel(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(127, 0, 0, 1), Mask: ipnet.Mask}})
			}
			w.must(netlink.RouteReplace(&netlink.Route{Dst: ipnet, Gw: net.IPv4(198, 51, 100, 1)}))
		}
	})
	w.expectSilence("from outside by a route to 127/8", w.ask(w.outside, "tcp4", "127.0.0.1:8081"))
	w.expectSilence("from outside straight to the container", w.ask(w.outside, "tcp4", e.IP.String()+":80"))
}

func TestEphemeralPortIsReportedAndWorks(t *testing.T) {
	w := newWorld(t)
	w.must(w.n.EnsureDefaults(context.Background()))
	e := w.sandbox("a", "bridge", port(0, 80, ""))
	if len(e.Ports) != 1 || e.Ports[0].HostPort == 0 || e.Ports[0].Protocol != "tcp" {
		t.Fatalf("ports %v", e.Ports)
	}
	to := netip.AddrPortFrom(addr("198.51.100.1"), e.Ports[0].HostPort).String()
	w.expect("from outside", w.ask(w.outside, "tcp4", to), "a sees 198.51.100.2")
}

func TestTakenPortIsOneSentenceAndLeavesNothing(t *testing.T) {
	w := newWorld(t)
	w.must(w.n.EnsureDefaults(context.Background()))
	l, err := net.Listen("tcp4", "198.51.100.1:8080")
	w.must(err)
	defer l.Close()
	before, _ := netlink.LinkList()
	_, err = w.n.Attach(context.Background(), Attachment{Network: "bridge", Sandbox: "a", NetnsPath: w.namespace("a"), Ports: []Port{port(8079, 80, "tcp"), port(8080, 80, "tcp")}})
	if !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "port 8080/tcp is already in use") {
		t.Errorf("error %v", err)
	}
	if after, _ := netlink.LinkList(); len(after) != len(before) {
		t.Errorf("links before %d, after %d", len(before), len(after))
	}
	if left := w.n.Endpoints(""); len(left) != 0 {
		t.Errorf("endpoints left: %v", left)
	}
	if files, _ := filepath.Glob(filepath.Join(w.dir, "run/endpoints/*/*.json")); len(files) != 0 {
		t.Errorf("files left: %v", files)
	}
	free, err := net.Listen("tcp4", ":8079")
	w.must(err)
	free.Close()
	w.sandbox("b", "bridge", port(8082, 80, "tcp"))
	_, err = w.n.Attach(context.Background(), Attachment{Network: "bridge", Sandbox: "c", NetnsPath: w.namespace("c"), Ports: []Port{port(8082, 80, "tcp")}})
	if err == nil || !strings.Contains(err.Error(), "by container b") {
		t.Errorf("error %v does not name the container", err)
	}
}

func TestNetworksAreIsolatedFromEachOther(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.must(w.n.EnsureDefaults(ctx))
	_, err := w.n.Create(ctx, Spec{Name: "other"})
	w.must(err)
	_, err = w.n.Create(ctx, Spec{Name: "inner", Internal: true})
	w.must(err)
	a, o, i, i2 := w.sandbox("a", "bridge"), w.sandbox("o", "other"), w.sandbox("i", "inner"), w.sandbox("i2", "inner")
	w.expect("subnet of the second network", w.subnet("other"), "172.18.0.0/16")
	w.expectSilence("a to o", w.ask(a.NetnsPath, "tcp4", o.IP.String()+":80"))
	w.expectSilence("o to a", w.ask(o.NetnsPath, "tcp4", a.IP.String()+":80"))
	w.expect("inside inner", w.ask(i.NetnsPath, "tcp4", i2.IP.String()+":80"), "i2 sees "+i.IP.String())
	w.serve(w.outside, "outside", ":80")
	w.expectSilence("i to outside", w.ask(i.NetnsPath, "tcp4", "198.51.100.2:80"))
	w.in(i.NetnsPath, func() {
		netlink.RouteAdd(&netlink.Route{Gw: i.Gateway.AsSlice()}) // a container with NET_ADMIN tries harder
	})
	w.expectSilence("i to outside by a route of its own", w.ask(i.NetnsPath, "tcp4", "198.51.100.2:80"))
}

func (w *world) subnet(name string) string {
	net, err := w.n.Get(name)
	w.must(err)
	return net.Subnet.String()
}

func (w *world) pods() {
	w.t.Helper()
	_, err := w.n.Ensure(context.Background(), Spec{Name: "pods", Driver: DriverRouted, Subnet: netip.MustParsePrefix("10.42.0.0/24"),
		NoMasquerade: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("198.51.100.8/32")}})
	w.must(err)
}

func TestRoutedPodsAreSeenByTheirOwnAddress(t *testing.T) {
	w := newWorld(t)
	w.pods()
	a, b := w.sandbox("a", "pods", port(8083, 80, "tcp")), w.sandbox("b", "pods")
	w.expect("address", a.IP.String(), "10.42.0.2")
	w.expect("b to a", w.ask(b.NetnsPath, "tcp4", a.IP.String()+":80"), "a sees "+b.IP.String())
	w.expect("host to a", w.ask("", "udp4", a.IP.String()+":80"), "a sees 10.42.0.1")
	w.serve("", "host", "198.51.100.1:80")
	w.expect("a to the host", w.ask(a.NetnsPath, "tcp4", "198.51.100.1:80"), "host sees "+a.IP.String())
	w.serve(w.outside, "outside", ":80")
	w.expect("a to outside", w.ask(a.NetnsPath, "tcp4", "198.51.100.2:80"), "outside sees 198.51.100.1")
	w.in(w.outside, func() {
		netnstest.Address(t, "", "cable", "198.51.100.8/24")
		_, ipnet, _ := net.ParseCIDR("10.42.0.0/24")
		w.must(netlink.RouteAdd(&netlink.Route{Dst: ipnet, Gw: net.IPv4(198, 51, 100, 1)}))
	})
	w.expect("a to a node", w.ask(a.NetnsPath, "tcp4", "198.51.100.8:80"), "outside sees "+a.IP.String())
	w.expect("a node to a", w.ask(w.outside, "tcp4", a.IP.String()+":80"), "a sees 198.51.100.2")
	w.expect("host port from outside", w.ask(w.outside, "tcp4", "198.51.100.1:8083"), "a sees 198.51.100.2")
	// The source must be the host's, whichever of its addresses the kernel chooses.
	w.expect("host port from itself", w.ask(a.NetnsPath, "tcp4", "198.51.100.1:8083"), "a sees 198.51.100.1")
	w.expect("host port from the other pod", w.ask(b.NetnsPath, "tcp4", "198.51.100.1:8083"), "a sees "+b.IP.String())
	if got := w.ask("", "tcp4", "10.42.0.200:80"); !strings.Contains(got, "unreachable") && !strings.Contains(got, "no route") {
		t.Errorf("an address without a pod: %q, want to be refused at once", got)
	}
}

func TestAPodCannotSendFromAnAddressThatIsNotItsOwn(t *testing.T) {
	w := newWorld(t)
	w.pods()
	a, b := w.sandbox("a", "pods"), w.sandbox("b", "pods")
	got := make(chan string, 10)
	w.in(b.NetnsPath, func() {
		u, err := net.ListenPacket("udp4", ":99")
		w.must(err)
		t.Cleanup(func() { u.Close() })
		go func() {
			buf := make([]byte, 10)
			for {
				_, from, err := u.ReadFrom(buf)
				if err != nil {
					return
				}
				got <- from.(*net.UDPAddr).IP.String()
			}
		}()
	})
	w.in(a.NetnsPath, func() {
		netnstest.Address(t, "", "lo", "10.42.0.77/32")
		for _, from := range []net.IP{nil, net.IPv4(10, 42, 0, 77), nil} { // honest, forged, honest
			c, err := net.DialUDP("udp4", &net.UDPAddr{IP: from}, &net.UDPAddr{IP: b.IP.AsSlice(), Port: 99})
			if err != nil {
				t.Error(err)
				return
			}
			c.Write([]byte("x"))
			c.Close()
		}
	})
	for range 2 {
		select {
		case from := <-got:
			w.expect("the sender", from, a.IP.String())
		case <-time.After(2 * time.Second):
			t.Fatal("an honest packet did not arrive")
		}
	}
}

func TestOpenTakesOverWhatRuns(t *testing.T) {
	w := newWorld(t)
	w.must(w.n.EnsureDefaults(context.Background()))
	w.pods()
	_, p := w.sandbox("a", "bridge", port(8084, 80, "tcp")), w.sandbox("p", "pods")
	gone := w.sandbox("gone", "pods")
	w.n.Close() // what kill -9 leaves: kernel state and files
	w.must(w.n.RemoveNamespace(gone.NetnsPath))
	attrs := netlink.NewLinkAttrs()
	attrs.Name = linkName("knt", "nobody", "nobody")
	w.must(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	w.must(os.WriteFile(filepath.Join(w.dir, "net", ".tmp-x"), nil, 0o600))
	w.n = nil
	w.open()
	if got := len(w.n.Endpoints("")); got != 2 {
		t.Errorf("%d endpoints, want 2", got)
	}
	for _, name := range []string{attrs.Name, gone.HostLink} {
		if _, err := netlink.LinkByName(name); err == nil {
			t.Errorf("link %s is still there", name)
		}
	}
	w.expect("p to a from localhost", w.ask("", "tcp4", "127.0.0.1:8084"), "a sees 172.17.0.1")
	w.expect("from outside", w.ask(w.outside, "tcp4", "198.51.100.1:8084"), "a sees 198.51.100.2")
	w.expect("to p", w.ask("", "tcp4", p.IP.String()+":80"), "p sees 10.42.0.1")
	next := w.sandbox("next", "pods")
	if next.IP == gone.IP || next.IP == p.IP {
		t.Errorf("address %s was given again at once", next.IP)
	}
	w.must(w.n.DetachAll(context.Background(), "a"))
	w.must(w.n.Remove(context.Background(), "missing"), errs.NotFound)
	w.must(w.n.Remove(context.Background(), "pods"), errs.Denied)
	w.must(w.n.Remove(context.Background(), "bridge"), errs.Denied)
}

func TestTeardownLeavesNothing(t *testing.T) {
	w := newWorld(t)
	before := w.inventory()
	w.must(w.n.EnsureDefaults(context.Background()))
	w.pods()
	w.sandbox("a", "bridge", port(8085, 80, "tcp"))
	w.sandbox("p", "pods")
	w.must(w.n.Teardown())
	if after := w.inventory(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func (w *world) inventory() string {
	var b strings.Builder
	links, err := netlink.LinkList()
	w.must(err)
	for _, l := range links {
		b.WriteString(l.Attrs().Name + "\n")
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	w.must(err)
	for _, r := range routes {
		b.WriteString(r.String() + "\n")
	}
	return b.String()
}

// The first packet after Attach is not lost: neither end of a new link may still wait for the kernel to notice its carrier.
func TestTheFirstPacketArrives(t *testing.T) {
	w := newWorld(t)
	w.must(w.n.EnsureDefaults(context.Background()))
	w.pods()
	w.serve("", "host", "198.51.100.1:80")
	for _, network := range []string{"pods", "bridge"} {
		for i := range 15 {
			name := fmt.Sprintf("%s-%d", network, i)
			path := w.namespace(name)
			e, err := w.n.Attach(context.Background(), Attachment{Network: network, Sandbox: name, NetnsPath: path})
			w.must(err)
			w.expect(name, w.ask(path, "udp4", "198.51.100.1:80"), "host sees "+e.IP.String())
		}
	}
}
