// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// servicePort is one port of one service with everything that its rules depend on.
type servicePort struct {
	id       string // "namespace/name/protocol/port", also in the names of its chains
	protocol string // tcp or udp
	port     uint16
	nodePort uint16 // 0: none

	clusterIPs  []netip.Addr
	externalIPs []netip.Addr   // reached without a source filter
	balancerIPs []netip.Addr   // reached from sources only
	sources     []netip.Prefix // of load balancers; empty: anywhere

	affinity                     time.Duration // 0: none
	internalLocal, externalLocal bool          // traffic policies

	endpoints []netip.AddrPort // in order, without doubles
	local     []netip.AddrPort // those of this node
}

// resolve puts services and endpoints together.
func resolve(services []*corev1.Service, endpointSlices []*discoveryv1.EndpointSlice, f Facts) []servicePort {
	byService := map[string][]*discoveryv1.EndpointSlice{}
	for _, s := range endpointSlices {
		if s.AddressType == discoveryv1.AddressTypeIPv4 {
			key := s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]
			byService[key] = append(byService[key], s)
		}
	}
	var out []servicePort
	for _, svc := range services {
		if !proxied(svc) {
			continue
		}
		for _, port := range svc.Spec.Ports {
			if sp, ok := resolvePort(svc, port, byService[svc.Namespace+"/"+svc.Name], f); ok {
				out = append(out, sp)
			}
		}
	}
	slices.SortFunc(out, func(a, b servicePort) int { return cmp.Compare(a.id, b.id) })
	return out
}

// labelProxyName marks services that another proxy serves.
const labelProxyName = "service.kubernetes.io/service-proxy-name"

func proxied(svc *corev1.Service) bool {
	_, other := svc.Labels[labelProxyName]
	return !other && svc.Spec.Type != corev1.ServiceTypeExternalName && svc.Spec.ClusterIP != corev1.ClusterIPNone && svc.Spec.ClusterIP != ""
}

func resolvePort(svc *corev1.Service, port corev1.ServicePort, from []*discoveryv1.EndpointSlice, f Facts) (servicePort, bool) {
	sp := servicePort{
		protocol: strings.ToLower(string(cmp.Or(port.Protocol, corev1.ProtocolTCP))),
		port:     uint16(port.Port), nodePort: uint16(port.NodePort),
		internalLocal: svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		externalLocal: svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
	}
	name := port.Name
	if name == "" {
		name = fmt.Sprint(port.Port)
	}
	sp.id = strings.Join([]string{svc.Namespace, svc.Name, sp.protocol, name}, "/")
	if sp.protocol != "tcp" && sp.protocol != "udp" {
		return sp, false
	}
	for _, a := range addresses(append([]string{svc.Spec.ClusterIP}, svc.Spec.ClusterIPs...)) {
		if !slices.Contains(f.OwnIPs, a) {
			sp.clusterIPs = append(sp.clusterIPs, a)
		}
	}
	if f.ExternalIPs {
		sp.externalIPs = addresses(svc.Spec.ExternalIPs)
	}
	sp.balancerIPs, sp.sources = balancer(svc)
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		sp.affinity = affinityTimeout(svc)
	}
	sp.endpoints, sp.local = endpoints(from, port.Name, sp.protocol, f.NodeName)
	return sp, true
}

// addresses parses what is IPv4, once each.
func addresses(list []string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil && a.Is4() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func balancer(svc *corev1.Service) (ips []netip.Addr, sources []netip.Prefix) {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil, nil
	}
	var list []string
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP {
			list = append(list, in.IP)
		}
	}
	for _, s := range svc.Spec.LoadBalancerSourceRanges {
		if p, err := netip.ParsePrefix(strings.TrimSpace(s)); err == nil && p.Addr().Is4() {
			sources = append(sources, p.Masked())
		}
	}
	return addresses(list), sources
}

// affinityTimeout is 3 hours if the service does not say (the API's default).
func affinityTimeout(svc *corev1.Service) time.Duration {
	seconds := corev1.DefaultClientIPServiceAffinitySeconds
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		seconds = *c.ClientIP.TimeoutSeconds
	}
	return time.Duration(seconds) * time.Second
}

// endpoints are the ready ones; if there is none, those that end but still serve (KEP-1669).
func endpoints(from []*discoveryv1.EndpointSlice, portName, protocol, node string) (all, local []netip.AddrPort) {
	var ready, ending, readyLocal, endingLocal []netip.AddrPort
	for _, s := range from {
		number, ok := slicePort(s, portName, protocol)
		if !ok {
			continue
		}
		for i := range s.Endpoints {
			ep := &s.Endpoints[i]
			if len(ep.Addresses) == 0 {
				continue
			}
			a, err := netip.ParseAddr(ep.Addresses[0])
			if err != nil || !a.Is4() {
				continue
			}
			at, here := netip.AddrPortFrom(a, number), ep.NodeName != nil && *ep.NodeName == node
			switch {
			case isTrue(ep.Conditions.Ready, true):
				ready = append(ready, at)
				if here {
					readyLocal = append(readyLocal, at)
				}
			case isTrue(ep.Conditions.Serving, false) && isTrue(ep.Conditions.Terminating, false):
				ending = append(ending, at)
				if here {
					endingLocal = append(endingLocal, at)
				}
			}
		}
	}
	if len(ready) == 0 {
		ready = ending
	}
	if len(readyLocal) == 0 {
		readyLocal = endingLocal
	}
	return tidy(ready), tidy(readyLocal)
}

func slicePort(s *discoveryv1.EndpointSlice, name, protocol string) (uint16, bool) {
	for _, p := range s.Ports {
		proto := "tcp"
		if p.Protocol != nil {
			proto = strings.ToLower(string(*p.Protocol))
		}
		if p.Port != nil && proto == protocol && deref(p.Name) == name {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

func tidy(list []netip.AddrPort) []netip.AddrPort {
	slices.SortFunc(list, netip.AddrPort.Compare)
	return slices.Compact(list)
}

func isTrue(b *bool, otherwise bool) bool {
	if b == nil {
		return otherwise
	}
	return *b
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
