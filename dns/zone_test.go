// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func ptr[T any](v T) *T { return &v }

func testCluster() ([]*corev1.Service, []*discoveryv1.EndpointSlice) {
	meta := func(ns, name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: ns, Name: name} }
	services := []*corev1.Service{
		{ObjectMeta: meta("default", "kubernetes"), Spec: corev1.ServiceSpec{ClusterIP: "10.43.0.1", Ports: []corev1.ServicePort{{Name: "https", Port: 443, Protocol: "TCP"}}}},
		{ObjectMeta: meta("shop", "web"), Spec: corev1.ServiceSpec{ClusterIP: "10.43.0.20", ClusterIPs: []string{"10.43.0.20", "fd00::20"}, Ports: []corev1.ServicePort{{Port: 80}}}},
		{ObjectMeta: meta("shop", "db"), Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Name: "sql", Port: 5432}}}},
		{ObjectMeta: meta("shop", "none"), Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}},
		{ObjectMeta: meta("shop", "ext"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "db.example.org"}},
		{ObjectMeta: meta("shop", "alias"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "web.shop.svc.cluster.local"}},
		{ObjectMeta: meta("shop", "loop"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "loop.shop.svc.cluster.local"}},
	}
	db := &discoveryv1.EndpointSlice{ObjectMeta: meta("shop", "db-1"), AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: ptr("sql"), Port: ptr(int32(5432)), Protocol: ptr(corev1.ProtocolTCP)}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.42.0.5"}, Hostname: ptr("db-0")},
			{Addresses: []string{"10.42.0.6"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(true)}},
			{Addresses: []string{"10.42.0.7"}, Hostname: ptr("db-2"), Conditions: discoveryv1.EndpointConditions{Ready: ptr(false)}},
		}}
	db.Labels = map[string]string{discoveryv1.LabelServiceName: "db"}
	return services, []*discoveryv1.EndpointSlice{db}
}

func testZone() *Zone {
	services, slices := testCluster()
	return NewZone("Cluster.Local", []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("10.43.0.0/16")}, services, slices)
}

// The table is the specification's, one line a rule. Records are written without name, class and TTL.
func TestAnswer(t *testing.T) {
	z := testZone()
	const nodata, nx, outside = "nodata", "nxdomain", "outside"
	for _, c := range []struct{ name, qtype, want string }{
		{"dns-version.cluster.local", "TXT", `TXT "1.1.0"`},
		{"kubernetes.default.svc.cluster.local", "A", "A 10.43.0.1"},
		{"KUBERNETES.Default.svc.cluster.LOCAL", "A", "A 10.43.0.1"},
		{"kubernetes.default.svc.cluster.local", "AAAA", nodata},
		{"_https._tcp.kubernetes.default.svc.cluster.local", "SRV", "SRV 0 100 443 kubernetes.default.svc.cluster.local. + A 10.43.0.1"},
		{"_https._udp.kubernetes.default.svc.cluster.local", "SRV", nx},
		{"_tcp.kubernetes.default.svc.cluster.local", "SRV", nodata},
		{"1.0.43.10.in-addr.arpa", "PTR", "PTR kubernetes.default.svc.cluster.local."},
		{"web.shop.svc.cluster.local", "A", "A 10.43.0.20"},
		{"web.shop.svc.cluster.local", "AAAA", "AAAA fd00::20"},
		{"web.shop.svc.cluster.local", "MX", nodata},
		{"x.web.shop.svc.cluster.local", "A", nx},
		{"0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", "PTR", "PTR web.shop.svc.cluster.local."},

		{"db.shop.svc.cluster.local", "A", "A 10.42.0.5, A 10.42.0.6"}, // headless: ready endpoints
		{"db-0.db.shop.svc.cluster.local", "A", "A 10.42.0.5"},
		{"10-42-0-6.db.shop.svc.cluster.local", "A", "A 10.42.0.6"},
		{"db-2.db.shop.svc.cluster.local", "A", nx}, // not ready
		{"_sql._tcp.db.shop.svc.cluster.local", "SRV", "SRV 0 50 5432 10-42-0-6.db.shop.svc.cluster.local., SRV 0 50 5432 db-0.db.shop.svc.cluster.local. + A 10.42.0.5, A 10.42.0.6"},
		{"5.0.42.10.in-addr.arpa", "PTR", "PTR db-0.db.shop.svc.cluster.local."},
		{"none.shop.svc.cluster.local", "A", nodata}, // headless without endpoints exists

		{"ext.shop.svc.cluster.local", "A", "CNAME db.example.org. > db.example.org."},
		{"ext.shop.svc.cluster.local", "CNAME", "CNAME db.example.org."},
		{"alias.shop.svc.cluster.local", "A", "CNAME web.shop.svc.cluster.local., A 10.43.0.20"},
		{"alias.shop.svc.cluster.local", "TXT", "CNAME web.shop.svc.cluster.local."},

		{"10-42-0-9.shop.pod.cluster.local", "A", "A 10.42.0.9"},
		{"fd00--9.shop.pod.cluster.local", "AAAA", "AAAA fd00::9"},
		{"10-42-0-9.shop.pod.cluster.local", "AAAA", nodata},
		{"10-42-0-999.shop.pod.cluster.local", "A", nx},
		{"shop.pod.cluster.local", "A", nodata},
		{"a.10-42-0-9.shop.pod.cluster.local", "A", nx},

		{"cluster.local", "A", nodata},
		{"cluster.local", "NS", "NS ns.dns.cluster.local."},
		{"svc.cluster.local", "A", nodata},
		{"shop.svc.cluster.local", "A", nodata},
		{"nowhere.svc.cluster.local", "A", nx},
		{"missing.shop.svc.cluster.local", "A", nx},
		{"example.org.shop.svc.cluster.local", "A", nx}, // what search paths make of outside names
		{"local", "A", outside},
		{"notcluster.local", "A", outside},
		{"example.org", "A", outside},
		{"99.0.43.10.in-addr.arpa", "PTR", nx}, // ours, but unknown
		{"1.2.0.192.in-addr.arpa", "PTR", outside},
		{"43.10.in-addr.arpa", "PTR", outside},
	} {
		got, ours := z.Answer(mdns.Question{Name: mdns.Fqdn(c.name), Qtype: mdns.StringToType[c.qtype], Qclass: mdns.ClassINET})
		text := answerText(got)
		switch {
		case !ours:
			text = outside
		case got.Rcode == mdns.RcodeNameError:
			text = nx
		case text == "":
			text = nodata
		}
		if text != c.want {
			t.Errorf("%s %s: got %s, want %s", c.name, c.qtype, text, c.want)
		}
		empty := text == nx || text == nodata || c.qtype == "TXT" && strings.HasPrefix(text, "CNAME")
		if ours && empty != (len(got.Authority) == 1) {
			t.Errorf("%s %s: %d authority records; a SOA belongs to what is empty, and only there", c.name, c.qtype, len(got.Authority))
		}
		for _, rr := range got.Answer {
			if len(got.Answer) == 1 && rr.Header().Name != mdns.Fqdn(c.name) {
				t.Errorf("%s: the answer is about %s", c.name, rr.Header().Name)
			}
		}
	}
}

func answerText(a Answer) string {
	list := func(rrs []mdns.RR) string {
		out := []string{}
		for _, rr := range rrs {
			out = append(out, strings.Join(strings.Fields(strings.TrimPrefix(rr.String(), rr.Header().String())), " "))
			out[len(out)-1] = mdns.TypeToString[rr.Header().Rrtype] + " " + out[len(out)-1]
		}
		if len(rrs) > 0 && rrs[0].Header().Rrtype != mdns.TypeCNAME {
			slices.Sort(out)
		}
		return strings.Join(out, ", ")
	}
	s := list(a.Answer)
	if len(a.Extra) > 0 {
		s += " + " + list(a.Extra)
	}
	if a.Follow != "" {
		s += " > " + a.Follow
	}
	return s
}

func TestExternalNamesThatPointAtEachOtherEnd(t *testing.T) {
	a, ours := testZone().Answer(mdns.Question{Name: "loop.shop.svc.cluster.local.", Qtype: mdns.TypeA})
	if !ours || len(a.Answer) > maxChain {
		t.Errorf("%v, %d records", ours, len(a.Answer))
	}
}

func FuzzReverseAddrAgreesWithTheLibrary(f *testing.F) {
	for _, s := range []string{"10.43.0.1", "fd00::20", "::", "255.255.255.255"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		reverseAddr(s)
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			return
		}
		name, err := mdns.ReverseAddr(a.String())
		if err != nil {
			return
		}
		if back, ok := reverseAddr(name); !ok || back != a {
			t.Errorf("%s -> %s -> %s, %v", a, name, back, ok)
		}
	})
}
