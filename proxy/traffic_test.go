// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/knarr/knarr/internal/netnstest"
)

// node is the test's own namespace as a node 198.51.100.1 with two pods on routed links, and a neighbour 198.51.100.2.
type node struct {
	t             *testing.T
	a, b, outside string // namespaces; the pods are 10.42.0.5 and 10.42.0.6
	p             *Proxy
	src           *fakeSource
}

type fakeSource struct {
	services []*corev1.Service
	slices   []*discoveryv1.EndpointSlice
	changed  chan struct{}
}

func (s *fakeSource) Snapshot() ([]*corev1.Service, []*discoveryv1.EndpointSlice) {
	return s.services, s.slices
}
func (s *fakeSource) Changed() <-chan struct{} { return s.changed }

func newNode(t *testing.T) *node {
	t.Helper()
	netnstest.Need(t)
	n := &node{t: t, a: netnstest.Namespace(t), b: netnstest.Namespace(t), outside: netnstest.Namespace(t), src: &fakeSource{changed: make(chan struct{}, 1)}}
	n.must(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))
	n.pod("poda", n.a, "10.42.0.5")
	n.pod("podb", n.b, "10.42.0.6")
	netnstest.Cable(t, "cable", n.outside, "cable")
	netnstest.Address(t, "", "cable", "198.51.100.1/24")
	netnstest.Address(t, n.outside, "cable", "198.51.100.2/24")
	netnstest.Serve(t, n.a, "a", ":8080")
	netnstest.Serve(t, n.b, "b", ":8080")
	f := facts()
	f.NodeIP = netip.MustParseAddr("198.51.100.1")
	n.p = New(Config{Name: "knt", Facts: f}, n.src, slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(func() { n.must(n.p.Remove()) })
	return n
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) pod(link, path, ip string) {
	n.t.Helper()
	gateway := &net.IPNet{IP: net.IPv4(10, 42, 0, 1), Mask: net.CIDRMask(32, 32)}
	netnstest.Cable(n.t, link, path, "eth0")
	netnstest.Address(n.t, "", link, gateway.String())
	netnstest.Address(n.t, path, "eth0", ip+"/32")
	l, err := netlink.LinkByName(link)
	n.must(err)
	n.must(netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: &net.IPNet{IP: net.ParseIP(ip).To4(), Mask: net.CIDRMask(32, 32)}, Scope: netlink.SCOPE_LINK}))
	netnstest.In(n.t, path, func() {
		eth, err := netlink.LinkByName("eth0")
		if err == nil {
			err = netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: gateway, Scope: netlink.SCOPE_LINK})
		}
		if err == nil {
			err = netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gateway.IP})
		}
		if err != nil {
			n.t.Error(err)
		}
	})
}

// set applies services and slices once, without Run.
func (n *node) set(services []*corev1.Service, slices ...*discoveryv1.EndpointSlice) {
	n.t.Helper()
	n.src.services, n.src.slices = services, slices
	n.must(n.p.sync())
}

func (n *node) expect(what, from, network, address, want string) {
	n.t.Helper()
	if got := netnstest.Ask(n.t, from, network, address); got != want {
		n.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// refused wants an answer that says no, and soon.
func (n *node) refused(what, from, address string) {
	n.t.Helper()
	began := time.Now()
	if got := netnstest.Ask(n.t, from, "tcp4", address); !strings.Contains(got, "refused") || time.Since(began) > 500*time.Millisecond {
		n.t.Errorf("%s: got %q after %v, want to be refused at once", what, got, time.Since(began))
	}
}

// spread asks 24 times and says who answered.
func (n *node) spread(from, address string) string {
	n.t.Helper()
	seen := map[string]bool{}
	for range 24 {
		name, _, _ := strings.Cut(netnstest.Ask(n.t, from, "tcp4", address), " ")
		seen[name] = true
	}
	var out []string
	for _, name := range []string{"a", "b"} {
		if seen[name] {
			out = append(out, name)
		}
		delete(seen, name)
	}
	for name := range seen {
		out = append(out, name)
	}
	return strings.Join(out, ",")
}

func TestClusterIP(t *testing.T) {
	n := newNode(t)
	n.set([]*corev1.Service{service("web", "10.43.0.20", nil)}, slice("web", 8080, "10.42.0.5@n1", "10.42.0.6@n1"))
	for what, from := range map[string]string{"pod a": n.a, "pod b": n.b, "the node": ""} {
		if got := n.spread(from, "10.43.0.20:80"); got != "a,b" {
			t.Errorf("from %s: %s answered", what, got)
		}
	}
	n.refused("a port that the service has not", n.a, "10.43.0.20:81")
	n.refused("the same from the node", "", "10.43.0.20:81")
	n.refused("an address that no service has", n.a, "10.43.9.9:80")

	n.set([]*corev1.Service{service("web", "10.43.0.20", nil)}, slice("web", 8080, "10.42.0.5@n1"))
	n.expect("a pod sees the pod that asks", n.b, "tcp4", "10.43.0.20:80", "a sees 10.42.0.6")
	// Masquerading takes the address of the link towards the pod.
	n.expect("a pod reaches itself", n.a, "tcp4", "10.43.0.20:80", "a sees 10.42.0.1")

	n.set([]*corev1.Service{service("web", "10.43.0.20", nodePort)})
	n.refused("no endpoints, from a pod", n.a, "10.43.0.20:80")
	n.refused("no endpoints, from the node", "", "10.43.0.20:80")
	n.refused("no endpoints, node port from outside", n.outside, "198.51.100.1:30080")
}

func TestNodePort(t *testing.T) {
	n := newNode(t)
	web := service("web", "10.43.0.20", nodePort)
	n.set([]*corev1.Service{web}, slice("web", 8080, "10.42.0.5@n1"))
	n.expect("from outside, masqueraded", n.outside, "tcp4", "198.51.100.1:30080", "a sees 10.42.0.1")
	n.expect("from the node", "", "tcp4", "198.51.100.1:30080", "a sees 10.42.0.1")
	n.expect("from the pod itself", n.a, "tcp4", "198.51.100.1:30080", "a sees 10.42.0.1")
	n.expect("by the node's other address", n.b, "tcp4", "10.42.0.1:30080", "a sees 10.42.0.1")

	web.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	n.set([]*corev1.Service{web}, slice("web", 8080, "10.42.0.5@n1", "10.42.0.6@n2"))
	n.expect("the client's address is kept", n.outside, "tcp4", "198.51.100.1:30080", "a sees 198.51.100.2")
	if got := n.spread(n.outside, "198.51.100.1:30080"); got != "a" {
		t.Errorf("policy Local reached %s", got)
	}
}

func TestSessionAffinity(t *testing.T) {
	n := newNode(t)
	web := service("web", "10.43.0.20", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
	both := slice("web", 8080, "10.42.0.5@n1", "10.42.0.6@n1")
	n.set([]*corev1.Service{web}, both)
	first := n.spread("", "10.43.0.20:80")
	if first != "a" && first != "b" {
		t.Fatalf("one client was answered by %q", first)
	}
	n.set([]*corev1.Service{web}, both, slice("web", 8080, "10.42.0.7@n1"))
	if got := n.spread("", "10.43.0.20:80"); got != first {
		t.Errorf("a new endpoint took the client from %s to %s", first, got)
	}
	rest := map[string]string{"a": "10.42.0.6@n1", "b": "10.42.0.5@n1"}[first]
	n.set([]*corev1.Service{web}, slice("web", 8080, rest))
	if got := n.spread("", "10.43.0.20:80"); got == first || len(got) != 1 {
		t.Errorf("after its endpoint went the client was answered by %q", got)
	}
}

// A UDP client that keeps its socket follows the service to a new endpoint.
func TestUDPFollowsTheEndpoints(t *testing.T) {
	n := newNode(t)
	udp := func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP }
	at := func(ip string) *discoveryv1.EndpointSlice {
		s := slice("dns", 8080, ip)
		s.Ports[0].Protocol = ptr(corev1.ProtocolUDP)
		return s
	}
	n.set([]*corev1.Service{service("dns", "10.43.0.53", udp)}, at("10.42.0.5"))
	c, err := net.Dial("udp4", "10.43.0.53:80")
	n.must(err)
	defer c.Close()
	if got := netnstest.AskOn(c); got != "a sees 198.51.100.1" {
		t.Fatalf("first: %q", got)
	}
	n.set([]*corev1.Service{service("dns", "10.43.0.53", udp)}, at("10.42.0.6"))
	if got := netnstest.AskOn(c); got != "b sees 198.51.100.1" {
		t.Errorf("after the endpoint moved: %q", got)
	}
}

func TestRunFollowsTheSourceAndRestoresTheTable(t *testing.T) {
	n := newNode(t)
	// The stranger that flushes must not get a netlink port that this process used before.
	keep, err := mdnetlink.Dial(unix.NETLINK_NETFILTER, nil)
	n.must(err)
	defer keep.Close()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- n.p.Run(ctx) }()
	defer func() {
		stop()
		n.must(<-done)
		n.expect("rules stay when Run has ended", n.a, "tcp4", "10.43.0.20:80", "b sees 10.42.0.5")
	}()
	n.src.services = []*corev1.Service{service("web", "10.43.0.20", nil)}
	n.src.slices = []*discoveryv1.EndpointSlice{slice("web", 8080, "10.42.0.6@n1")}
	n.src.changed <- struct{}{}
	n.eventually("b sees 10.42.0.5")
	c, err := nftables.New()
	n.must(err)
	c.FlushRuleset()
	n.must(c.Flush())
	n.eventually("b sees 10.42.0.5")
}

func (n *node) eventually(want string) {
	n.t.Helper()
	var got string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if got = netnstest.Ask(n.t, n.a, "tcp4", "10.43.0.20:80"); got == want {
			return
		}
	}
	n.t.Fatalf("got %q, want %q", got, want)
}

func TestRemoveLeavesNothing(t *testing.T) {
	n := newNode(t)
	routes := func() int {
		list, err := netlink.RouteList(nil, netlink.FAMILY_V4)
		n.must(err)
		return len(list)
	}
	before := routes()
	n.set([]*corev1.Service{service("web", "10.43.0.20", nil)}, slice("web", 8080, "10.42.0.6@n1"))
	n.must(n.p.Remove())
	if after := routes(); after != before {
		t.Errorf("routes before %d, after %d", before, after)
	}
	c, err := nftables.New()
	n.must(err)
	if tables, err := c.ListTables(); err != nil || len(tables) != 0 {
		t.Errorf("tables left: %v, %v", tables, err)
	}
}
