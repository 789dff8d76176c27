// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

func validateNetworkPolicy(n *networkingv1.NetworkPolicy) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &n.Spec
	validateSelector(f, p.Child("podSelector"), &s.PodSelector)
	for i := range s.Ingress {
		at := p.Child("ingress").Index(i)
		validatePolicyPorts(f, at.Child("ports"), s.Ingress[i].Ports)
		validatePeers(f, at.Child("from"), s.Ingress[i].From)
	}
	for i := range s.Egress {
		at := p.Child("egress").Index(i)
		validatePolicyPorts(f, at.Child("ports"), s.Egress[i].Ports)
		validatePeers(f, at.Child("to"), s.Egress[i].To)
	}
	if len(s.PolicyTypes) > 2 {
		f.invalid(p.Child("policyTypes"), &s.PolicyTypes, "may not specify more than two policyTypes")
		return f.list
	}
	for i, t := range s.PolicyTypes {
		supported(f, p.Child("policyTypes").Index(i), t, networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress)
	}
	return f.list
}

func validatePolicyPorts(f *faults, p *field.Path, ports []networkingv1.NetworkPolicyPort) {
	for i, port := range ports {
		at := p.Index(i)
		if port.Protocol != nil {
			validateProtocol(f, at.Child("protocol"), *port.Protocol)
		}
		end := port.EndPort
		switch {
		case port.Port == nil:
			if end != nil {
				f.invalid(at.Child("endPort"), *end, "may not be specified when `port` is not specified")
			}
		case port.Port.Type == intstr.String:
			if end != nil {
				f.invalid(at.Child("endPort"), *end, "may not be specified when `port` is non-numeric")
			}
			f.each(at.Child("port"), port.Port.StrVal, validation.IsValidPortName(port.Port.StrVal))
		default:
			f.port(at.Child("port"), port.Port.IntVal)
			if end != nil {
				if *end < port.Port.IntVal {
					f.invalid(at.Child("endPort"), port.Port.IntVal, "must be greater than or equal to `port`")
				}
				f.port(at.Child("endPort"), *end)
			}
		}
	}
}

func validatePeers(f *faults, p *field.Path, peers []networkingv1.NetworkPolicyPeer) {
	for i, peer := range peers {
		at := p.Index(i)
		if peer.PodSelector != nil {
			validateSelector(f, at.Child("podSelector"), peer.PodSelector)
		}
		if peer.NamespaceSelector != nil {
			validateSelector(f, at.Child("namespaceSelector"), peer.NamespaceSelector)
		}
		if peer.IPBlock != nil {
			validateBlock(f, at.Child("ipBlock"), peer.IPBlock)
		}
		selects := peer.PodSelector != nil || peer.NamespaceSelector != nil
		switch {
		case !selects && peer.IPBlock == nil:
			f.required(at, "must specify a peer")
		case selects && peer.IPBlock != nil:
			f.forbidden(at, "may not specify both ipBlock and another peer")
		}
	}
}

// badCIDR is what kube-apiserver says of any text that is no range of addresses.
const badCIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"

// validateBlock: what is excepted lies within the block and is smaller than it.
func validateBlock(f *faults, p *field.Path, b *networkingv1.IPBlock) {
	if !f.need(p.Child("cidr"), b.CIDR) {
		return
	}
	_, whole, err := netutils.ParseCIDRSloppy(b.CIDR)
	if err != nil {
		f.invalid(p.Child("cidr"), b.CIDR, badCIDR)
		return
	}
	for i, e := range b.Except {
		at := p.Child("except").Index(i)
		_, part, err := netutils.ParseCIDRSloppy(e)
		if err != nil {
			f.invalid(at, e, badCIDR)
			continue
		}
		wholeBits, _ := whole.Mask.Size()
		partBits, _ := part.Mask.Size()
		if !whole.Contains(part.IP) || wholeBits >= partBits {
			f.invalid(at, e, fmt.Sprintf("must be a strict subset of `cidr`: %q", b.CIDR))
		}
	}
}

// longestController bounds the name of an ingress controller.
const longestController = 250

func validateIngressClass(c *networkingv1.IngressClass) field.ErrorList {
	f := &faults{}
	p := field.NewPath("spec")
	if len(c.Spec.Controller) > longestController {
		f.add(field.TooLong(p.Child("controller"), "", longestController))
	}
	f.add(validation.IsDomainPrefixedPath(p.Child("controller"), c.Spec.Controller)...)
	r, at := c.Spec.Parameters, p.Child("parameters")
	if r == nil {
		return f.list
	}
	if r.APIGroup != nil {
		f.each(at.Child("apiGroup"), *r.APIGroup, validation.IsDNS1123Subdomain(*r.APIGroup))
	}
	segment(f, at.Child("kind"), r.Kind)
	segment(f, at.Child("name"), r.Name)
	if r.Scope == nil {
		f.required(at.Child("scope"), "")
		return f.list
	}
	supported(f, at.Child("scope"), *r.Scope, networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace)
	switch {
	case *r.Scope == networkingv1.IngressClassParametersReferenceScopeNamespace && r.Namespace == nil:
		f.required(at.Child("namespace"), "`parameters.scope` is set to 'Namespace'")
	case *r.Scope == networkingv1.IngressClassParametersReferenceScopeNamespace:
		f.each(at.Child("namespace"), *r.Namespace, validation.IsDNS1123Label(*r.Namespace))
	case *r.Scope == networkingv1.IngressClassParametersReferenceScopeCluster && r.Namespace != nil:
		f.forbidden(at.Child("namespace"), "`parameters.scope` is set to 'Cluster'")
	}
	return f.list
}

// segment: there, and one part of a URL.
func segment(f *faults, p *field.Path, value string) {
	if f.need(p, value) {
		f.each(p, value, pathSegment(value, false))
	}
}

func validateIngressClassUpdate(new, old *networkingv1.IngressClass) field.ErrorList {
	f := &faults{}
	f.immutable(field.NewPath("spec", "controller"), new.Spec.Controller, old.Spec.Controller)
	return f.list
}

// addressName: an address is named by itself.
func addressName(name string, _ bool) (sentences []string) {
	for _, e := range validation.IsValidIP(nil, name) {
		sentences = append(sentences, e.Detail)
	}
	return sentences
}

func validateIPAddress(a *networkingv1.IPAddress) field.ErrorList {
	f := &faults{}
	p, r := field.NewPath("spec", "parentRef"), a.Spec.ParentRef
	if r == nil {
		f.required(p, "")
		return f.list
	}
	if r.Group != "" {
		f.each(p.Child("group"), r.Group, validation.IsDNS1123Subdomain(r.Group))
	}
	segment(f, p.Child("resource"), r.Resource)
	segment(f, p.Child("name"), r.Name)
	if r.Namespace != "" {
		f.each(p.Child("namespace"), r.Namespace, pathSegment(r.Namespace, false))
	}
	return f.list
}

func validateIPAddressUpdate(new, old *networkingv1.IPAddress) field.ErrorList {
	f := &faults{}
	f.immutable(field.NewPath("spec", "parentRef"), new.Spec.ParentRef, old.Spec.ParentRef)
	return f.list
}

func validateServiceCIDR(c *networkingv1.ServiceCIDR) field.ErrorList {
	f := &faults{}
	p, list := field.NewPath("spec", "cidrs"), c.Spec.CIDRs
	switch {
	case len(list) == 0:
		f.required(p, "at least one CIDR required")
		return f.list
	case len(list) > 2:
		f.invalid(p, c.Spec, "may only hold up to 2 values")
		return f.list
	}
	for i, v := range list {
		f.add(validation.IsValidCIDR(p.Index(i), v)...)
	}
	if len(list) == 2 {
		first, second := netutils.IPFamilyOfCIDRString(list[0]), netutils.IPFamilyOfCIDRString(list[1])
		if first == second && first != netutils.IPFamilyUnknown {
			f.invalid(p, list, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64")
		}
	}
	return f.list
}

// validateServiceCIDRUpdate: a second family may be added; what is there stays.
func validateServiceCIDRUpdate(new, old *networkingv1.ServiceCIDR) field.ErrorList {
	f := &faults{}
	p := field.NewPath("spec", "cidrs")
	if len(new.Spec.CIDRs) != len(old.Spec.CIDRs) && !(len(old.Spec.CIDRs) == 1 && len(new.Spec.CIDRs) == 2) {
		f.invalid(p, new.Spec.CIDRs, "field is immutable")
		return f.list
	}
	for i, was := range old.Spec.CIDRs {
		f.immutable(p.Index(i), new.Spec.CIDRs[i], was)
	}
	return f.list
}
