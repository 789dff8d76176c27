// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/internal/netnstest"
	"github.com/knarr/knarr/internal/nft"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

var update = flag.Bool("update", false, "rewrite the goldens")

func facts() Facts {
	return Facts{NodeName: "n1", NodeIP: netip.MustParseAddr("192.0.2.2"), ClusterCIDR: netip.MustParsePrefix("10.42.0.0/16"),
		ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"), OwnIPs: []netip.Addr{netip.MustParseAddr("10.43.0.10")}}
}

func ptr[T any](v T) *T { return &v }

func service(name, ip string, change func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip},
		Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
	}}
	if change != nil {
		change(s)
	}
	return s
}

// slice has endpoints "address", "address@node"; a "!" before it is not ready, a "~" ends but serves.
func slice(service string, port int32, list ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(port), Protocol: ptr(corev1.ProtocolTCP)}},
	}
	for _, e := range list {
		ep := discoveryv1.Endpoint{Conditions: discoveryv1.EndpointConditions{Ready: ptr(true)}}
		switch {
		case strings.HasPrefix(e, "!"):
			e, ep.Conditions.Ready = e[1:], ptr(false)
		case strings.HasPrefix(e, "~"):
			e, ep.Conditions = e[1:], discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(true), Terminating: ptr(true)}
		}
		a, node, ok := strings.Cut(e, "@")
		if ok {
			ep.NodeName = &node
		}
		ep.Addresses = []string{a}
		s.Endpoints = append(s.Endpoints, ep)
	}
	return s
}

func nodePort(s *corev1.Service) {
	s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080
}

func TestRulesGolden(t *testing.T) {
	udp := func(s *corev1.Service) {
		s.Spec.Ports[0].Protocol = corev1.ProtocolUDP
	}
	two := slice("web", 8080, "10.42.0.6@n1", "10.42.1.5@n2", "10.42.0.5@n1")
	for name, c := range map[string]struct {
		services []*corev1.Service
		slices   []*discoveryv1.EndpointSlice
		change   func(*Facts)
	}{
		"none":      {},
		"clusterip": {services: []*corev1.Service{service("web", "10.43.0.20", nil)}, slices: []*discoveryv1.EndpointSlice{two}},
		"one-endpoint-two-ports": {services: []*corev1.Service{service("web", "10.43.0.20", func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP})
		})}, slices: []*discoveryv1.EndpointSlice{func() *discoveryv1.EndpointSlice {
			s := slice("web", 8080, "10.42.0.5")
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: ptr("dns"), Port: ptr(int32(5353)), Protocol: ptr(corev1.ProtocolUDP)})
			return s
		}()}},
		"nodeport":          {services: []*corev1.Service{service("web", "10.43.0.20", nodePort)}, slices: []*discoveryv1.EndpointSlice{two}},
		"nodeport-empty":    {services: []*corev1.Service{service("web", "10.43.0.20", nodePort)}, slices: []*discoveryv1.EndpointSlice{slice("web", 8080, "!10.42.0.5")}},
		"affinity":          {services: []*corev1.Service{service("web", "10.43.0.20", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })}, slices: []*discoveryv1.EndpointSlice{two}},
		"internal-local":    {services: []*corev1.Service{service("web", "10.43.0.20", func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal) })}, slices: []*discoveryv1.EndpointSlice{two}},
		"internal-not-here": {services: []*corev1.Service{service("web", "10.43.0.20", func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal) })}, slices: []*discoveryv1.EndpointSlice{slice("web", 8080, "10.42.1.5@n2")}},
		"external-local": {services: []*corev1.Service{service("web", "10.43.0.20", func(s *corev1.Service) {
			nodePort(s)
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		})}, slices: []*discoveryv1.EndpointSlice{two}},
		"loadbalancer": {services: []*corev1.Service{service("web", "10.43.0.20", func(s *corev1.Service) {
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			s.Spec.LoadBalancerSourceRanges = []string{"203.0.113.0/24"}
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.7"}}
			s.Spec.ExternalIPs = []string{"8.8.8.8"} // off by default
		})}, slices: []*discoveryv1.EndpointSlice{two}},
		"external-ips": {services: []*corev1.Service{service("web", "10.43.0.20", func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"198.51.100.9", "2001:db8::1"} })},
			slices: []*discoveryv1.EndpointSlice{two}, change: func(f *Facts) { f.ExternalIPs = true }},
		"left-out": {services: []*corev1.Service{
			service("headless", corev1.ClusterIPNone, nil),
			service("name", "", func(s *corev1.Service) { s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "x.org" }),
			service("other", "10.43.0.21", func(s *corev1.Service) { s.Labels = map[string]string{labelProxyName: "cilium"} }),
			service("dns", "10.43.0.10", udp),
			service("sctp", "10.43.0.22", func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolSCTP }),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts()
			if c.change != nil {
				c.change(&f)
			}
			tab := rules(c.services, c.slices, f)
			tab.Name = "knarr-proxy"
			file := filepath.Join("testdata", name+".nft")
			if *update {
				if err := os.WriteFile(file, []byte(tab.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if tab.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", tab, want)
			}
		})
	}
}

func TestEndpointsThatEndServeWhenNoneIsReady(t *testing.T) {
	all, local := endpoints([]*discoveryv1.EndpointSlice{slice("web", 80, "~10.42.0.5@n1", "!10.42.0.6@n1"), slice("web", 80, "~10.42.0.5@n1", "~10.42.1.5@n2")}, "http", "tcp", "n1")
	if len(all) != 2 || len(local) != 1 {
		t.Errorf("all %v, local %v", all, local)
	}
	all, local = endpoints([]*discoveryv1.EndpointSlice{slice("web", 80, "~10.42.0.5@n1", "10.42.1.5@n2")}, "http", "tcp", "n1")
	if len(all) != 1 || all[0].String() != "10.42.1.5:80" || len(local) != 1 {
		t.Errorf("all %v, local %v", all, local)
	}
}

// Two services with the same load balancer address and port must not make the transaction fail.
func TestAmbiguousAddressHasOneOwner(t *testing.T) {
	lb := func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.7"}}
	}
	tab := rules([]*corev1.Service{service("b", "10.43.0.21", lb), service("a", "10.43.0.20", lb)},
		[]*discoveryv1.EndpointSlice{slice("a", 1, "10.42.0.1"), slice("b", 2, "10.42.0.2")}, facts())
	if n := strings.Count(tab.String(), "198.51.100.7 . tcp . 80 : goto ext-default/a/tcp/http"); n != 1 || strings.Count(tab.String(), "198.51.100.7") != 1 {
		t.Errorf("%s", tab)
	}
}

// A new endpoint of one service changes that service's chain and nothing else.
func TestChangeIsSmall(t *testing.T) {
	services := []*corev1.Service{service("web", "10.43.0.20", nil), service("db", "10.43.0.21", nil)}
	db := slice("db", 5432, "10.42.0.9")
	before := rules(services, []*discoveryv1.EndpointSlice{slice("web", 80, "10.42.0.5"), db}, facts())
	after := rules(services, []*discoveryv1.EndpointSlice{slice("web", 80, "10.42.0.5", "10.42.0.6"), db}, facts())
	changes, ok := nft.Diff(before, after)
	for _, c := range changes {
		if (c.Chain != nil && c.Chain.Name != "svc-default/web/tcp/http") || (c.Set != nil && c.Set.Name != setHairpin) {
			t.Errorf("unexpected change: %s", c)
		}
	}
	if !ok || len(changes) != 4 { // flush, two rules, one hairpin pair
		t.Errorf("%v, %d changes: %v", ok, len(changes), changes)
	}
}

func TestStaleFlows(t *testing.T) {
	at := netip.MustParseAddrPort
	set := func(list ...string) map[netip.AddrPort]bool {
		out := map[netip.AddrPort]bool{}
		for _, s := range list {
			out[at(s)] = true
		}
		return out
	}
	key := at("10.43.0.10:53")
	for name, c := range map[string]struct {
		before, now flows
		want        bool
	}{
		"unchanged":           {flows{key: set("10.42.0.1:53")}, flows{key: set("10.42.0.1:53")}, false},
		"one more":            {flows{key: set("10.42.0.1:53")}, flows{key: set("10.42.0.1:53", "10.42.0.2:53")}, false},
		"one less":            {flows{key: set("10.42.0.1:53", "10.42.0.2:53")}, flows{key: set("10.42.0.1:53")}, true},
		"the first endpoint":  {flows{key: set()}, flows{key: set("10.42.0.1:53")}, true},
		"after a restart":     {flows{}, flows{key: set("10.42.0.1:53")}, true},
		"the service is gone": {flows{key: set("10.42.0.1:53")}, flows{}, true},
	} {
		if _, got := stale(c.before, c.now)[key]; got != c.want {
			t.Errorf("%s: stale %v, want %v", name, got, c.want)
		}
	}
}

func rules(services []*corev1.Service, slices []*discoveryv1.EndpointSlice, f Facts) *nft.Table {
	return table(resolve(services, slices, f), f)
}
