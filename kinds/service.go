// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Service is core/v1 Service. Cluster addresses and node ports are allocated by the API server, after Validate.
var Service = Kind[corev1.Service]{
	Version: "v1", Name: "Service", Plural: "services", Short: []string{"svc"}, Categories: []string{"all"}, Storage: "services/specs",
	HasStatus: true, NoGeneration: true,
	ValidateName:   validation.NameIsDNS1035Label,
	Default:        defaultService,
	Validate:       validateService,
	ValidateUpdate: validateServiceUpdate,
	BeforeCreate:   settleFamilies,
	BeforeUpdate:   keepAllocated,
	Columns:        serviceColumns,
	Fields: func(s *corev1.Service) fields.Set {
		return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
	},
}

const affinitySeconds = int32(3 * 60 * 60)

func defaultService(svc *corev1.Service) {
	s := &svc.Spec
	or(&s.Type, corev1.ServiceTypeClusterIP)
	or(&s.SessionAffinity, corev1.ServiceAffinityNone)
	switch s.SessionAffinity {
	case corev1.ServiceAffinityNone:
		s.SessionAffinityConfig = nil
	case corev1.ServiceAffinityClientIP:
		if c := s.SessionAffinityConfig; c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
			timeout := affinitySeconds
			s.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &timeout}}
		}
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		or(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == intstr.FromInt32(0) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if hasNodePorts(s) {
		or(&s.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if hasClusterIP(s) {
		orSet(&s.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	}
	if s.Type == corev1.ServiceTypeLoadBalancer {
		orSet(&s.AllocateLoadBalancerNodePorts, true)
	}
}

// hasClusterIP: all but a mere alias have one, though it may be "None".
func hasClusterIP(s *corev1.ServiceSpec) bool {
	return s.Type == corev1.ServiceTypeClusterIP || hasNodePorts(s)
}

func hasNodePorts(s *corev1.ServiceSpec) bool {
	return s.Type == corev1.ServiceTypeNodePort || s.Type == corev1.ServiceTypeLoadBalancer
}

func isHeadless(s *corev1.ServiceSpec) bool {
	return s.ClusterIP == corev1.ClusterIPNone || (len(s.ClusterIPs) > 0 && s.ClusterIPs[0] == corev1.ClusterIPNone)
}

// settleFamilies makes the two spellings of the address agree, and fills in the address families of a single-stack
// cluster: the family of the address asked for, else IPv4. A headless service without selector belongs to whoever writes
// its endpoints, so it may have both.
func settleFamilies(svc *corev1.Service) {
	s := &svc.Spec
	switch {
	case s.ClusterIP != "" && len(s.ClusterIPs) == 0:
		s.ClusterIPs = []string{s.ClusterIP}
	case s.ClusterIP == "" && len(s.ClusterIPs) > 0:
		s.ClusterIP = s.ClusterIPs[0]
	}
	if !hasClusterIP(s) {
		return
	}
	first := corev1.IPv4Protocol
	if ip, err := netip.ParseAddr(s.ClusterIP); err == nil && ip.Is6() {
		first = corev1.IPv6Protocol
	}
	if len(s.IPFamilies) > 0 {
		first = s.IPFamilies[0]
	}
	if isHeadless(s) && len(s.Selector) == 0 {
		orSet(&s.IPFamilyPolicy, corev1.IPFamilyPolicyRequireDualStack)
		if len(s.IPFamilies) == 0 {
			s.IPFamilies = []corev1.IPFamily{first}
		}
		if *s.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack && len(s.IPFamilies) == 1 {
			s.IPFamilies = append(s.IPFamilies, otherFamily(first))
		}
		return
	}
	policy := corev1.IPFamilyPolicySingleStack
	if len(s.IPFamilies) == 2 || len(s.ClusterIPs) == 2 {
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	orSet(&s.IPFamilyPolicy, policy)
	if len(s.IPFamilies) == 0 {
		s.IPFamilies = []corev1.IPFamily{first}
	}
}

func otherFamily(f corev1.IPFamily) corev1.IPFamily {
	if f == corev1.IPv6Protocol {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// keepAllocated: an update that leaves out what the server allocated keeps it, and one that turns the service into a type
// that has no use for it gives it back.
func keepAllocated(new, old *corev1.Service) {
	n, o := &new.Spec, &old.Spec
	if hasClusterIP(o) && hasClusterIP(n) && n.ClusterIP == "" && len(n.ClusterIPs) == 0 {
		n.ClusterIP, n.ClusterIPs = o.ClusterIP, slices.Clone(o.ClusterIPs)
	}
	// A client that knows one spelling only changes that one.
	if n.ClusterIP != o.ClusterIP && slices.Equal(n.ClusterIPs, o.ClusterIPs) {
		n.ClusterIPs = nil
		if n.ClusterIP != "" {
			n.ClusterIPs = []string{n.ClusterIP}
		}
	}
	if hasClusterIP(o) && !hasClusterIP(n) && n.ClusterIP == o.ClusterIP {
		n.ClusterIP, n.ClusterIPs, n.IPFamilies, n.IPFamilyPolicy = "", nil, nil, nil
		n.InternalTrafficPolicy = nil
	}
	if hasClusterIP(o) && hasClusterIP(n) {
		if len(n.IPFamilies) == 0 {
			n.IPFamilies = slices.Clone(o.IPFamilies)
		}
		if n.IPFamilyPolicy == nil {
			n.IPFamilyPolicy = o.IPFamilyPolicy
		}
	}
	keepNodePorts(n, o)
	settleFamilies(new)
}

func keepNodePorts(n, o *corev1.ServiceSpec) {
	switch {
	case hasNodePorts(n) && hasNodePorts(o):
		taken := map[int32]bool{}
		for _, p := range n.Ports {
			taken[p.NodePort] = true
		}
		for i := range n.Ports {
			p := &n.Ports[i]
			at := slices.IndexFunc(o.Ports, func(q corev1.ServicePort) bool { return q.Port == p.Port && q.Protocol == p.Protocol })
			if p.NodePort == 0 && at >= 0 && !taken[o.Ports[at].NodePort] {
				p.NodePort = o.Ports[at].NodePort
			}
		}
	case hasNodePorts(o):
		for i := range n.Ports {
			if i < len(o.Ports) && n.Ports[i].NodePort == o.Ports[i].NodePort {
				n.Ports[i].NodePort = 0
			}
		}
		if n.ExternalTrafficPolicy == o.ExternalTrafficPolicy {
			n.ExternalTrafficPolicy = ""
		}
	}
	if o.Type == corev1.ServiceTypeLoadBalancer && n.Type != corev1.ServiceTypeLoadBalancer {
		n.AllocateLoadBalancerNodePorts, n.LoadBalancerClass, n.HealthCheckNodePort = nil, nil, 0
	}
}

var serviceColumns = []Column[corev1.Service]{
	nameColumn[corev1.Service](),
	text("Type", "How the service is reached.", 0, func(s *corev1.Service) string { return string(s.Spec.Type) }),
	text("Cluster-IP", "Its address inside the cluster.", 0, func(s *corev1.Service) string {
		if len(s.Spec.ClusterIPs) > 0 {
			return s.Spec.ClusterIPs[0]
		}
		return orNone(s.Spec.ClusterIP)
	}),
	text("External-IP", "Addresses from outside.", 0, externalIP),
	text("Port(s)", "port[:nodePort]/protocol of each port.", 0, func(s *corev1.Service) string {
		list := make([]string, len(s.Spec.Ports))
		for i, p := range s.Spec.Ports {
			list[i] = fmt.Sprintf("%d/%s", p.Port, p.Protocol)
			if p.NodePort > 0 {
				list[i] = fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol)
			}
		}
		return orNone(strings.Join(list, ","))
	}),
	ageColumn[corev1.Service](),
	text("Selector", "The labels of its pods.", wide, func(s *corev1.Service) string { return orNone(fields.Set(s.Spec.Selector).String()) }),
}

func externalIP(s *corev1.Service) string {
	ips := s.Spec.ExternalIPs
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		given := []string{}
		for _, in := range s.Status.LoadBalancer.Ingress {
			if in.IP != "" {
				given = append(given, in.IP)
			} else if in.Hostname != "" {
				given = append(given, in.Hostname)
			}
		}
		if ips = append(given, ips...); len(ips) == 0 {
			return "<pending>"
		}
	}
	return orNone(strings.Join(ips, ","))
}
