// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/internal/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

type fakeSource struct {
	mu       sync.Mutex // guards the fields below
	services []*corev1.Service
	slices   []*discoveryv1.EndpointSlice

	changed chan struct{}
}

func (s *fakeSource) Snapshot() ([]*corev1.Service, []*discoveryv1.EndpointSlice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.services, s.slices
}

func (s *fakeSource) set(services []*corev1.Service, slices []*discoveryv1.EndpointSlice) {
	s.mu.Lock()
	s.services, s.slices = services, slices
	s.mu.Unlock()
	s.changed <- struct{}{}
}
func (s *fakeSource) Changed() <-chan struct{} { return s.changed }

const address = "10.43.0.10"

// start runs a server on the cluster's DNS address until the test ends.
func start(t *testing.T, upstreams ...netip.AddrPort) *fakeSource {
	t.Helper()
	netnstest.Need(t)
	src := &fakeSource{changed: make(chan struct{}, 1)}
	src.services, src.slices = testCluster()
	empty := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(empty, []byte("search x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort(address + ":53")}, Upstreams: upstreams, ResolvConf: empty},
		src, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		lo, _ := netlink.LinkByName("lo")
		if list, _ := netlink.AddrList(lo, netlink.FAMILY_V4); len(list) != 1 {
			t.Errorf("lo has %v after the end", list)
		}
	})
	src.changed <- struct{}{}
	for deadline := time.Now().Add(5 * time.Second); ; {
		reply, err := ask("udp", "dns-version.cluster.local.", mdns.TypeTXT)
		if err == nil && len(reply.Answer) == 1 {
			return src
		}
		if time.Now().After(deadline) {
			t.Fatal("the server does not answer:", err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func ask(network, name string, qtype uint16) (*mdns.Msg, error) {
	q := new(mdns.Msg).SetQuestion(name, qtype)
	reply, _, err := (&mdns.Client{Net: network, Timeout: 4 * time.Second}).Exchange(q, address+":53")
	return reply, err
}

func text(reply *mdns.Msg, err error) string {
	if err != nil {
		return err.Error()
	}
	out := []string{mdns.RcodeToString[reply.Rcode]}
	for _, rr := range reply.Answer {
		out = append(out, strings.Fields(rr.String())[4])
	}
	return strings.Join(out, " ")
}

func TestServesByUDPAndTCPAndFollowsChanges(t *testing.T) {
	src := start(t)
	for _, network := range []string{"udp", "tcp"} {
		if got := text(ask(network, "kubernetes.default.svc.cluster.local.", mdns.TypeA)); got != "NOERROR 10.43.0.1" {
			t.Errorf("%s: %s", network, got)
		}
	}
	src.set(append(src.services, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "new"}, Spec: corev1.ServiceSpec{ClusterIP: "10.43.0.77"}}), src.slices)
	for deadline := time.Now().Add(5 * time.Second); ; {
		got := text(ask("udp", "new.shop.svc.cluster.local.", mdns.TypeA))
		if got == "NOERROR 10.43.0.77" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(got)
		}
	}
}

func TestWithoutUpstreamsEverythingFailsAtOnce(t *testing.T) {
	start(t)
	began := time.Now()
	for i := range 5 {
		if got := text(ask("udp", fmt.Sprintf("x%d.example.org.", i), mdns.TypeA)); got != "SERVFAIL" {
			t.Error(got)
		}
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("five answers took %v", took)
	}
}

// A dead upstream is waited for once, not for every name.
func TestDeadUpstreamIsNotAskedAgainAtOnce(t *testing.T) {
	netnstest.Need(t)
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	start(t, silent.LocalAddr().(*net.UDPAddr).AddrPort())
	ask("udp", "first.example.org.", mdns.TypeA)
	began := time.Now()
	if got := text(ask("udp", "second.example.org.", mdns.TypeA)); got != "SERVFAIL" || time.Since(began) > 500*time.Millisecond {
		t.Errorf("%s after %v", got, time.Since(began))
	}
}

// fakeUpstream answers every A question with 203.0.113.<number of labels>, and counts cluster names that should never come.
func fakeUpstream(t *testing.T) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := pc.LocalAddr().(*net.UDPAddr).AddrPort()
	l, err := net.Listen("tcp4", at.String())
	if err != nil {
		t.Fatal(err)
	}
	handler := mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
		name := q.Question[0].Name
		if strings.HasSuffix(name, "cluster.local.") {
			t.Errorf("the cluster's name %s was sent upstream", name)
		}
		reply := new(mdns.Msg).SetReply(q)
		rr, _ := mdns.NewRR(fmt.Sprintf("%s 60 IN A 203.0.113.%d", name, mdns.CountLabel(name)))
		reply.Answer = append(reply.Answer, rr)
		w.WriteMsg(reply)
	})
	for _, s := range []*mdns.Server{{PacketConn: pc, Handler: handler}, {Listener: l, Handler: handler}} {
		go s.ActivateAndServe()
	}
	t.Cleanup(func() { pc.Close(); l.Close() })
	return at
}

func TestForwardsTheRest(t *testing.T) {
	netnstest.Need(t)
	start(t, fakeUpstream(t))
	for name, want := range map[string]string{
		"example.org.":                           "NOERROR 203.0.113.2",
		"ext.shop.svc.cluster.local.":            "NOERROR db.example.org. 203.0.113.3",
		"example.org.default.svc.cluster.local.": "NXDOMAIN",
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := text(ask(network, name, mdns.TypeA)); got != want {
				t.Errorf("%s by %s: %s, want %s", name, network, got, want)
			}
		}
	}
}

func TestLongAnswersAreCutByUDPAndWholeByTCP(t *testing.T) {
	src := start(t)
	slice := src.slices[0].DeepCopy()
	for i := range 200 {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.42.3.%d", i)}})
	}
	src.set(src.services, []*discoveryv1.EndpointSlice{slice})
	name := "db.shop.svc.cluster.local."
	for deadline := time.Now().Add(5 * time.Second); ; {
		reply, err := ask("tcp", name, mdns.TypeA)
		if err == nil && len(reply.Answer) == 202 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(reply, err)
		}
	}
	reply, err := ask("udp", name, mdns.TypeA)
	reply.Compress = true // as it was on the wire
	if err != nil || !reply.Truncated || reply.Len() > mdns.MinMsgSize {
		t.Errorf("truncated %v, %d bytes, %v", reply.Truncated, reply.Len(), err)
	}
}

func TestOddQuestionsAreRefused(t *testing.T) {
	start(t)
	q := new(mdns.Msg).SetQuestion("kubernetes.default.svc.cluster.local.", mdns.TypeA)
	q.Question[0].Qclass = mdns.ClassCHAOS
	reply, _, err := new(mdns.Client).Exchange(q, address+":53")
	if got := text(reply, err); got != "REFUSED" {
		t.Errorf("class CH: %s", got)
	}
	q = new(mdns.Msg).SetUpdate("cluster.local.")
	reply, _, err = new(mdns.Client).Exchange(q, address+":53")
	if got := text(reply, err); got != "NOTIMP" {
		t.Errorf("update: %s", got)
	}
}

func TestRemoveTakesTheAddressOfAKilledServer(t *testing.T) {
	netnstest.Need(t)
	if _, err := claim(netip.MustParseAddr(address)); err != nil {
		t.Fatal(err)
	}
	s := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort(address + ":53"), netip.MustParseAddrPort("127.0.0.1:53")}}, nil, nil)
	for range 2 { // the second time there is nothing to do
		if err := s.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	lo, _ := netlink.LinkByName("lo")
	if list, _ := netlink.AddrList(lo, netlink.FAMILY_V4); len(list) != 1 {
		t.Errorf("lo has %v", list)
	}
}
