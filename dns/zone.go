// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// ttl of every record, seconds: short, because services change; CoreDNS's value.
const ttl = 5

// specVersion is what dns-version.<domain> answers.
const specVersion = "1.1.0"

// Zone is every name of a cluster at one moment. It is immutable.
//
//	<service>.<ns>.svc.<domain>               A/AAAA: the cluster IPs; headless: its ready endpoints; CNAME: an external name
//	<host>.<service>.<ns>.svc.<domain>        A/AAAA: one endpoint of a headless service
//	_<port>._<proto>.<service>.<ns>.svc.<d.>  SRV: each named port
//	<a-b-c-d>.<ns>.pod.<domain>               A/AAAA: the address that the name spells
//	<reverse address>                         PTR
type Zone struct {
	domain  string // lower case, with the final dot
	reverse []netip.Prefix
	names   map[string]*node
}

// node is what one name has. A node without records is a name that exists only because something below it does.
type node struct {
	addrs []netip.Addr
	srv   []target
	cname string
	ptr   []string
	txt   string
}

type target struct {
	host string
	port uint16
}

// NewZone builds the zone.
func NewZone(domain string, reverse []netip.Prefix, services []*corev1.Service, endpointSlices []*discoveryv1.EndpointSlice) *Zone {
	z := &Zone{domain: mdns.Fqdn(strings.ToLower(domain)), reverse: reverse, names: map[string]*node{}}
	z.at(z.domain)
	z.at("svc." + z.domain)
	z.at("pod." + z.domain)
	z.at("dns-version." + z.domain).txt = specVersion
	byService := map[string][]*discoveryv1.EndpointSlice{}
	for _, s := range endpointSlices {
		key := s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]
		byService[key] = append(byService[key], s)
	}
	for _, svc := range services {
		name := strings.ToLower(svc.Name+"."+svc.Namespace) + ".svc." + z.domain
		switch {
		case svc.Spec.Type == corev1.ServiceTypeExternalName:
			z.at(name).cname = mdns.Fqdn(svc.Spec.ExternalName)
		case svc.Spec.ClusterIP == corev1.ClusterIPNone:
			z.headless(name, byService[svc.Namespace+"/"+svc.Name])
		case svc.Spec.ClusterIP != "":
			z.clusterIP(name, svc)
		}
	}
	return z
}

// at returns the node of a name, made with all names above it, as a tree has.
func (z *Zone) at(name string) *node {
	if n := z.names[name]; n != nil {
		return n
	}
	n := &node{}
	z.names[name] = n
	if _, parent, ok := strings.Cut(name, "."); ok && name != z.domain && inDomain(parent, z.domain) {
		z.at(parent)
	}
	return n
}

func (z *Zone) clusterIP(name string, svc *corev1.Service) {
	n := z.at(name)
	for _, s := range append([]string{svc.Spec.ClusterIP}, svc.Spec.ClusterIPs...) {
		if a, err := netip.ParseAddr(s); err == nil && !slices.Contains(n.addrs, a) {
			n.addrs = append(n.addrs, a)
			z.pointer(a, name)
		}
	}
	for _, p := range svc.Spec.Ports {
		if p.Name != "" {
			z.service(p.Name, string(p.Protocol), name, target{name, uint16(p.Port)})
		}
	}
}

func (z *Zone) headless(name string, from []*discoveryv1.EndpointSlice) {
	n := z.at(name) // exists also without endpoints
	for _, s := range from {
		for i := range s.Endpoints {
			ep := &s.Endpoints[i]
			if ep.Conditions.Ready != nil && !*ep.Conditions.Ready {
				continue
			}
			for _, text := range ep.Addresses {
				a, err := netip.ParseAddr(text)
				if err != nil {
					continue // a name (address type FQDN)
				}
				host := endpointName(ep, a) + "." + name
				n.add(a)
				z.at(host).add(a)
				z.pointer(a, host)
				for _, p := range s.Ports {
					if p.Name != nil && *p.Name != "" && p.Port != nil {
						proto := "tcp"
						if p.Protocol != nil {
							proto = string(*p.Protocol)
						}
						z.service(*p.Name, proto, name, target{host, uint16(*p.Port)})
					}
				}
			}
		}
	}
}

func (n *node) add(a netip.Addr) {
	if !slices.Contains(n.addrs, a) {
		n.addrs = append(n.addrs, a)
	}
}

// endpointName is the pod's hostname, which hostname and subdomain in its spec give, or else its address with dashes.
func endpointName(ep *discoveryv1.Endpoint, a netip.Addr) string {
	if ep.Hostname != nil && *ep.Hostname != "" {
		return strings.ToLower(*ep.Hostname)
	}
	return strings.NewReplacer(".", "-", ":", "-").Replace(a.String())
}

func (z *Zone) service(port, protocol, name string, t target) {
	if protocol == "" {
		protocol = "tcp"
	}
	n := z.at("_" + strings.ToLower(port) + "._" + strings.ToLower(protocol) + "." + name)
	if !slices.Contains(n.srv, t) {
		n.srv = append(n.srv, t)
	}
}

func (z *Zone) pointer(a netip.Addr, name string) {
	rev, err := mdns.ReverseAddr(a.String())
	if err != nil {
		return
	}
	n := z.names[rev]
	if n == nil {
		n = &node{}
		z.names[rev] = n
	}
	if !slices.Contains(n.ptr, name) {
		n.ptr = append(n.ptr, name)
	}
}

// Answer is what a zone says to a question.
type Answer struct {
	Rcode                    int
	Answer, Authority, Extra []mdns.RR
	Fixed                    int    // so many records at the start of Answer are the chain of external names
	Follow                   string // resolve this name outside too, and add what it gives
}

// maxChain bounds how many external names may point at each other.
const maxChain = 8

// Answer answers a question of class IN. It says false if the name is not the cluster's to answer.
func (z *Zone) Answer(q mdns.Question) (Answer, bool) {
	name := canonical(q.Name)
	if !inDomain(name, z.domain) {
		return z.answerReverse(q, name)
	}
	var a Answer
	// The answer keeps the question's spelling: some resolvers mix upper and lower case to make forgery harder.
	owner := q.Name
	for range maxChain {
		n := z.find(name)
		if n == nil {
			if len(a.Answer) == 0 {
				a.Rcode = mdns.RcodeNameError
			}
			break
		}
		if n.cname == "" || q.Qtype == mdns.TypeCNAME {
			a.Answer = append(a.Answer, z.records(n, owner, q.Qtype)...)
			a.Extra = z.extra(n, q.Qtype)
			break
		}
		a.Answer = append(a.Answer, &mdns.CNAME{Hdr: header(owner, mdns.TypeCNAME), Target: n.cname})
		a.Fixed++
		owner, name = n.cname, canonical(n.cname)
		if !inDomain(name, z.domain) {
			a.Follow = n.cname
			break
		}
	}
	if len(a.Answer) == a.Fixed && a.Follow == "" {
		a.Authority = []mdns.RR{z.soa()}
	}
	return a, true
}

func (z *Zone) answerReverse(q mdns.Question, name string) (Answer, bool) {
	addr, ok := reverseAddr(name)
	if !ok {
		return Answer{}, false
	}
	if n := z.names[name]; n != nil {
		a := Answer{Answer: z.records(n, q.Name, q.Qtype)}
		if len(a.Answer) == 0 {
			a.Authority = []mdns.RR{z.soa()}
		}
		return a, true
	}
	for _, p := range z.reverse {
		if p.Contains(addr) {
			return Answer{Rcode: mdns.RcodeNameError, Authority: []mdns.RR{z.soa()}}, true
		}
	}
	return Answer{}, false
}

// find returns the node of a name in the domain, or nil if there is no such name.
func (z *Zone) find(name string) *node {
	if n := z.names[name]; n != nil {
		return n
	}
	pod, ok := strings.CutSuffix(name, ".pod."+z.domain)
	if !ok {
		return nil
	}
	spelled, ns, ok := strings.Cut(pod, ".")
	switch {
	case !ok:
		return &node{} // <ns>.pod.<domain>
	case strings.Contains(ns, "."):
		return nil
	}
	for _, sep := range []string{".", ":"} {
		if a, err := netip.ParseAddr(strings.ReplaceAll(spelled, "-", sep)); err == nil {
			return &node{addrs: []netip.Addr{a}}
		}
	}
	return nil
}

func (z *Zone) records(n *node, owner string, qtype uint16) []mdns.RR {
	var out []mdns.RR
	switch qtype {
	case mdns.TypeA, mdns.TypeAAAA:
		for _, a := range n.addrs {
			if rr := addressRecord(owner, a); rr.Header().Rrtype == qtype {
				out = append(out, rr)
			}
		}
	case mdns.TypeSRV:
		for _, t := range n.srv {
			// The weights of equal targets are equal; the whole is 100, as CoreDNS has it.
			out = append(out, &mdns.SRV{Hdr: header(owner, qtype), Priority: 0, Weight: uint16(100 / len(n.srv)), Port: t.port, Target: t.host})
		}
	case mdns.TypePTR:
		for _, p := range n.ptr {
			out = append(out, &mdns.PTR{Hdr: header(owner, qtype), Ptr: p})
		}
	case mdns.TypeTXT:
		if n.txt != "" {
			out = append(out, &mdns.TXT{Hdr: header(owner, qtype), Txt: []string{n.txt}})
		}
	case mdns.TypeCNAME:
		if n.cname != "" {
			out = append(out, &mdns.CNAME{Hdr: header(owner, qtype), Target: n.cname})
		}
	case mdns.TypeSOA:
		if canonical(owner) == z.domain {
			out = append(out, z.soa())
		}
	case mdns.TypeNS:
		if canonical(owner) == z.domain {
			out = append(out, &mdns.NS{Hdr: header(owner, qtype), Ns: "ns.dns." + z.domain})
		}
	}
	return out
}

// extra gives the addresses of an SRV answer's targets, sparing the client a question for each.
func (z *Zone) extra(n *node, qtype uint16) []mdns.RR {
	if qtype != mdns.TypeSRV {
		return nil
	}
	var out []mdns.RR
	seen := map[string]bool{}
	for _, t := range n.srv {
		if at := z.names[t.host]; at != nil && !seen[t.host] {
			seen[t.host] = true
			for _, a := range at.addrs {
				out = append(out, addressRecord(t.host, a))
			}
		}
	}
	return out
}

// soa goes with every "no": its last number says how long clients may remember it. The serial is constant because nobody
// transfers the zone.
func (z *Zone) soa() mdns.RR {
	return &mdns.SOA{Hdr: header(z.domain, mdns.TypeSOA), Ns: "ns.dns." + z.domain, Mbox: "hostmaster." + z.domain,
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl}
}

func addressRecord(owner string, a netip.Addr) mdns.RR {
	if a.Is4() {
		return &mdns.A{Hdr: header(owner, mdns.TypeA), A: a.AsSlice()}
	}
	return &mdns.AAAA{Hdr: header(owner, mdns.TypeAAAA), AAAA: a.AsSlice()}
}

func header(owner string, rrtype uint16) mdns.RR_Header {
	return mdns.RR_Header{Name: owner, Rrtype: rrtype, Class: mdns.ClassINET, Ttl: ttl}
}

func canonical(name string) string { return strings.ToLower(mdns.Fqdn(name)) }

func inDomain(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// reverseAddr reads an address out of its in-addr.arpa or ip6.arpa name.
func reverseAddr(name string) (netip.Addr, bool) {
	if labels, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		parts := strings.Split(labels, ".")
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil && a.Is4()
	}
	labels, ok := strings.CutSuffix(name, ".ip6.arpa.")
	parts := strings.Split(labels, ".")
	if !ok || len(parts) != 32 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i, p := range parts {
		nibble, err := strconv.ParseUint(p, 16, 4)
		if err != nil || len(p) != 1 {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(nibble) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b), true
}
