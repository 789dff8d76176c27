// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// Node ports come from this range.
const (
	NodePortFirst = 30000
	NodePortLast  = 32767
)

const maxAffinitySeconds = 24 * 60 * 60

func validateService(svc *corev1.Service) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &svc.Spec
	oneOf(f, p.Child("type"), s.Type, corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort)
	if len(s.Ports) == 0 && !isHeadless(s) && s.Type != corev1.ServiceTypeExternalName {
		f.required(p.Child("ports"), "")
	}
	validateServicePorts(f, p.Child("ports"), s)
	validateServiceIPs(f, p, s)
	f.add(metavalidation.ValidateLabels(s.Selector, p.Child("selector"))...)
	validateAffinity(f, p, s)
	validateExternal(f, p, s)
	validateTraffic(f, p, s)
	validateBalancer(f, p, s)
	return f.list
}

func validateServicePorts(f *faults, p *field.Path, s *corev1.ServiceSpec) {
	names, ports, nodePorts := unique{}, unique{}, map[string]bool{}
	for i := range s.Ports {
		port, at := &s.Ports[i], p.Index(i)
		switch {
		case port.Name != "":
			f.each(at.Child("name"), port.Name, validation.IsDNS1123Label(port.Name))
			names.check(f, at.Child("name"), port.Name)
		case len(s.Ports) > 1:
			f.required(at.Child("name"), "")
		}
		f.port(at.Child("port"), port.Port)
		validateProtocol(f, at.Child("protocol"), port.Protocol)
		f.portOrName(at.Child("targetPort"), port.TargetPort)
		if a := port.AppProtocol; a != nil {
			f.each(at.Child("appProtocol"), *a, validation.IsQualifiedName(*a))
		}
		if key := fmt.Sprintf("%d/%s", port.Port, port.Protocol); ports[key] {
			f.add(field.Duplicate(at, corev1.ServicePort{Protocol: port.Protocol, Port: port.Port}))
		} else {
			ports[key] = true
		}
		if port.NodePort == 0 {
			continue
		}
		switch {
		case !hasNodePorts(s):
			f.forbidden(at.Child("nodePort"), fmt.Sprintf("may not be used when `type` is '%s'", s.Type))
		case port.NodePort < NodePortFirst || port.NodePort > NodePortLast:
			f.invalid(at.Child("nodePort"), port.NodePort, fmt.Sprintf("provided port is not in the valid range. The range of valid ports is %d-%d", NodePortFirst, NodePortLast))
		}
		key := fmt.Sprintf("%d/%s", port.NodePort, port.Protocol)
		if nodePorts[key] {
			f.add(field.Duplicate(at.Child("nodePort"), port.NodePort))
		}
		nodePorts[key] = true
	}
}

func validateServiceIPs(f *faults, p *field.Path, s *corev1.ServiceSpec) {
	at := p.Child("clusterIPs")
	if s.Type == corev1.ServiceTypeExternalName {
		if len(s.ClusterIPs) > 0 {
			f.forbidden(at, "may not be set for ExternalName services")
		}
		if len(s.IPFamilies) > 0 {
			f.forbidden(p.Child("ipFamilies"), "may not be set for ExternalName services")
		}
		if s.IPFamilyPolicy != nil {
			f.forbidden(p.Child("ipFamilyPolicy"), "may not be set for ExternalName services")
		}
		return
	}
	validateFamilies(f, p, s)
	if len(s.ClusterIPs) > 0 && s.ClusterIP != s.ClusterIPs[0] {
		f.invalid(at, s.ClusterIPs, "first value must match `clusterIP`")
	}
	if len(s.ClusterIPs) > 2 {
		f.invalid(at, s.ClusterIPs, "may only hold up to 2 values")
	}
	for i, ip := range s.ClusterIPs {
		if ip != corev1.ClusterIPNone {
			validateIP(f, at.Index(i), ip)
			continue
		}
		if len(s.ClusterIPs) > 1 {
			f.invalid(at, s.ClusterIPs, "'None' must be the first and only value")
		}
		if hasNodePorts(s) {
			f.invalid(at.Index(i), ip, fmt.Sprintf("may not be set to 'None' for %s services", s.Type))
		}
	}
	if len(s.ClusterIPs) == 2 && netutils.IsIPv6String(s.ClusterIPs[0]) == netutils.IsIPv6String(s.ClusterIPs[1]) {
		f.invalid(at, s.ClusterIPs, "may specify no more than one IP for each IP family")
	}
}

func validateFamilies(f *faults, p *field.Path, s *corev1.ServiceSpec) {
	seen := unique{}
	for i, v := range s.IPFamilies {
		at := p.Child("ipFamilies").Index(i)
		supported(f, at, v, corev1.IPv4Protocol, corev1.IPv6Protocol)
		seen.check(f, at, string(v))
		if i < len(s.ClusterIPs) && s.ClusterIPs[i] != corev1.ClusterIPNone && (v == corev1.IPv6Protocol) != netutils.IsIPv6String(s.ClusterIPs[i]) {
			f.invalid(p.Child("clusterIPs").Index(i), s.ClusterIPs[i], fmt.Sprintf("expected an %v value as indicated by `ipFamilies[%v]`", v, i))
		}
	}
	if v := s.IPFamilyPolicy; v != nil {
		supported(f, p.Child("ipFamilyPolicy"), *v, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack)
		if *v == corev1.IPFamilyPolicySingleStack && len(s.IPFamilies) == 2 {
			f.invalid(p.Child("ipFamilyPolicy"), *v, "may not be 'SingleStack' when multiple 'ipFamilies' are specified")
		}
	}
}

func validateAffinity(f *faults, p *field.Path, s *corev1.ServiceSpec) {
	oneOf(f, p.Child("sessionAffinity"), s.SessionAffinity, corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	at := p.Child("sessionAffinityConfig")
	switch c := s.SessionAffinityConfig; {
	case s.SessionAffinity == corev1.ServiceAffinityNone && c != nil:
		f.forbidden(at, "must not be set when session affinity is None")
	case s.SessionAffinity == corev1.ServiceAffinityClientIP && (c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil):
		f.required(at.Child("clientIP", "timeoutSeconds"), "")
	case s.SessionAffinity == corev1.ServiceAffinityClientIP:
		if t := *c.ClientIP.TimeoutSeconds; t <= 0 || t > maxAffinitySeconds {
			f.invalid(at.Child("clientIP", "timeoutSeconds"), t, fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds))
		}
	}
}

func validateExternal(f *faults, p *field.Path, s *corev1.ServiceSpec) {
	if s.Type == corev1.ServiceTypeExternalName {
		if f.need(p.Child("externalName"), s.ExternalName) {
			f.each(p.Child("externalName"), s.ExternalName, validation.IsDNS1123Subdomain(strings.TrimSuffix(s.ExternalName, ".")))
		}
	}
	for i, ip := range s.ExternalIPs {
		at := p.Child("externalIPs").Index(i)
		validateIP(f, at, ip)
		ordinaryIP(f, at, ip)
	}
}

// ordinaryIP refuses addresses that mean the machine itself or the link: traffic to them must never be turned elsewhere.
func ordinaryIP(f *faults, p *field.Path, value string) {
	ip := netutils.ParseIPSloppy(value)
	if ip == nil {
		return
	}
	for _, bad := range []struct {
		is   bool
		text string
	}{
		{ip.IsUnspecified(), fmt.Sprintf("may not be unspecified (%v)", value)},
		{ip.IsLoopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"},
		{ip.IsLinkLocalUnicast(), "may not be in the link-local range (169.254.0.0/16, fe80::/10)"},
		{ip.IsLinkLocalMulticast(), "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"},
	} {
		if bad.is {
			f.invalid(p, value, bad.text)
		}
	}
}

func validateTraffic(f *faults, p *field.Path, s *corev1.ServiceSpec) {
	at := p.Child("externalTrafficPolicy")
	external := hasNodePorts(s) || (s.Type == corev1.ServiceTypeClusterIP && len(s.ExternalIPs) > 0)
	switch {
	case s.ExternalTrafficPolicy != "" && !external:
		f.invalid(at, s.ExternalTrafficPolicy, "may only be set for externally-accessible services")
	case external && (hasNodePorts(s) || s.ExternalTrafficPolicy != ""):
		oneOf(f, at, s.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	}
	if hasClusterIP(s) {
		if v := s.InternalTrafficPolicy; v == nil {
			f.required(p.Child("internalTrafficPolicy"), "")
		} else {
			supported(f, p.Child("internalTrafficPolicy"), *v, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)
		}
	}
	if v := s.TrafficDistribution; v != nil {
		supported(f, p.Child("trafficDistribution"), *v, corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameNode, corev1.ServiceTrafficDistributionPreferSameZone)
	}
	if n := s.HealthCheckNodePort; n != 0 {
		local := s.Type == corev1.ServiceTypeLoadBalancer && s.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
		if n < 0 {
			f.port(p.Child("healthCheckNodePort"), n)
		} else if !local {
			f.invalid(p.Child("healthCheckNodePort"), n, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'")
		}
	}
}

func validateBalancer(f *faults, p *field.Path, s *corev1.ServiceSpec) {
	balanced := s.Type == corev1.ServiceTypeLoadBalancer
	if len(s.LoadBalancerSourceRanges) > 0 && !balanced {
		f.forbidden(p.Child("loadBalancerSourceRanges"), "may only be used when `type` is 'LoadBalancer'")
	}
	for i, cidr := range s.LoadBalancerSourceRanges {
		f.add(validation.IsValidCIDRForLegacyField(p.Child("loadBalancerSourceRanges").Index(i), strings.TrimSpace(cidr), true, nil)...)
	}
	at := p.Child("allocateLoadBalancerNodePorts")
	switch {
	case balanced && s.AllocateLoadBalancerNodePorts == nil:
		f.required(at, "")
	case !balanced && s.AllocateLoadBalancerNodePorts != nil:
		f.forbidden(at, "may only be used when `type` is 'LoadBalancer'")
	}
	if c := s.LoadBalancerClass; c != nil {
		if !balanced {
			f.forbidden(p.Child("loadBalancerClass"), "may only be used when `type` is 'LoadBalancer'")
		}
		f.each(p.Child("loadBalancerClass"), *c, validation.IsQualifiedName(*c))
	}
}

// validateServiceUpdate: the address others have learnt stays.
func validateServiceUpdate(new, old *corev1.Service) field.ErrorList {
	f := &faults{}
	p := field.NewPath("spec")
	if hasClusterIP(&new.Spec) && hasClusterIP(&old.Spec) && len(old.Spec.ClusterIPs) > 0 {
		if len(new.Spec.ClusterIPs) == 0 {
			f.invalid(p.Child("clusterIPs").Index(0), new.Spec.ClusterIPs, "primary clusterIP can not be unset")
		} else if new.Spec.ClusterIPs[0] != old.Spec.ClusterIPs[0] {
			f.invalid(p.Child("clusterIPs").Index(0), new.Spec.ClusterIPs, "may not change once set")
		}
	}
	if hasClusterIP(&new.Spec) && hasClusterIP(&old.Spec) && len(old.Spec.IPFamilies) > 0 && len(new.Spec.IPFamilies) > 0 && new.Spec.IPFamilies[0] != old.Spec.IPFamilies[0] {
		f.invalid(p.Child("ipFamilies").Index(0), new.Spec.IPFamilies, "may not change once set")
	}
	if o, n := old.Spec.LoadBalancerClass, new.Spec.LoadBalancerClass; old.Spec.Type == corev1.ServiceTypeLoadBalancer && new.Spec.Type == old.Spec.Type && o != nil {
		f.immutable(p.Child("loadBalancerClass"), n, o)
	}
	return f.list
}
