// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// EndpointSlice is discovery.k8s.io/v1 EndpointSlice.
var EndpointSlice = Kind[discoveryv1.EndpointSlice]{
	Group: "discovery.k8s.io", Version: "v1", Name: "EndpointSlice", Plural: "endpointslices",
	Served: endpointSliceVersions,
	Default: func(e *discoveryv1.EndpointSlice) {
		for i := range e.Ports {
			orSet(&e.Ports[i].Name, "")
			orSet(&e.Ports[i].Protocol, corev1.ProtocolTCP)
		}
	},
	Validate: validateEndpointSlice,
	ValidateUpdate: func(new, old *discoveryv1.EndpointSlice) field.ErrorList {
		f := &faults{}
		f.immutable(field.NewPath("addressType"), new.AddressType, old.AddressType)
		return f.list
	},
	Columns: []Column[discoveryv1.EndpointSlice]{
		nameColumn[discoveryv1.EndpointSlice](),
		text("AddressType", "IPv4, IPv6 or FQDN.", 0, func(e *discoveryv1.EndpointSlice) string { return string(e.AddressType) }),
		text("Ports", "The first ports.", 0, slicePorts),
		text("Endpoints", "The first addresses.", 0, func(e *discoveryv1.EndpointSlice) string {
			list := []string{}
			for _, p := range e.Endpoints {
				list = append(list, p.Addresses...)
			}
			if len(list) == 0 {
				return unset
			}
			return first3(list)
		}),
		ageColumn[discoveryv1.EndpointSlice](),
	},
}

func slicePorts(e *discoveryv1.EndpointSlice) string {
	list := []string{}
	for _, p := range e.Ports {
		switch {
		case p.Port != nil:
			list = append(list, strconv.Itoa(int(*p.Port)))
		case p.Name != nil && *p.Name != "":
			list = append(list, *p.Name)
		default:
			list = append(list, "*")
		}
	}
	if len(list) == 0 {
		return unset
	}
	return first3(list)
}

const (
	maxEndpoints = 1000
	maxAddresses = 100
	maxPorts     = 20000
	maxHints     = 8
)

func validateEndpointSlice(e *discoveryv1.EndpointSlice) field.ErrorList {
	f := &faults{}
	oneOf(f, field.NewPath("addressType"), e.AddressType, discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)
	if len(e.Endpoints) > maxEndpoints {
		f.add(field.TooMany(field.NewPath("endpoints"), len(e.Endpoints), maxEndpoints))
		return f.list
	}
	for i := range e.Endpoints {
		validateEndpoint(f, field.NewPath("endpoints").Index(i), &e.Endpoints[i], e.AddressType)
	}
	ports := field.NewPath("ports")
	if len(e.Ports) > maxPorts {
		f.add(field.TooMany(ports, len(e.Ports), maxPorts))
		return f.list
	}
	names := map[string]bool{}
	for i, p := range e.Ports {
		at := ports.Index(i)
		if p.Name != nil {
			if *p.Name != "" {
				f.each(at.Child("name"), *p.Name, validation.IsDNS1123Label(*p.Name))
			}
			if names[*p.Name] {
				f.add(field.Duplicate(at.Child("name"), *p.Name))
			}
			names[*p.Name] = true
		}
		if p.Protocol != nil {
			validateProtocol(f, at.Child("protocol"), *p.Protocol)
		} else {
			f.required(at.Child("protocol"), "")
		}
		if p.Port != nil {
			f.port(at.Child("port"), *p.Port)
		}
		if a := p.AppProtocol; a != nil {
			f.each(at.Child("appProtocol"), *a, validation.IsQualifiedName(*a))
		}
	}
	return f.list
}

func validateEndpoint(f *faults, p *field.Path, e *discoveryv1.Endpoint, t discoveryv1.AddressType) {
	at := p.Child("addresses")
	switch n := len(e.Addresses); {
	case n == 0:
		f.required(at, "must contain at least 1 address")
	case n > maxAddresses:
		f.add(field.TooMany(at, n, maxAddresses))
	}
	for i, a := range e.Addresses {
		validateSliceAddress(f, at.Index(i), a, t)
	}
	if h := e.Hostname; h != nil {
		f.each(p.Child("hostname"), *h, validation.IsDNS1123Label(*h))
	}
	if n := e.NodeName; n != nil {
		f.each(p.Child("nodeName"), *n, validation.IsDNS1123Subdomain(*n))
	}
	f.add(metavalidation.ValidateLabels(e.DeprecatedTopology, p.Child("deprecatedTopology"))...)
	if e.Hints == nil {
		return
	}
	hints, seen := p.Child("hints", "forZones"), unique{}
	if len(e.Hints.ForZones) > maxHints {
		f.add(field.TooMany(hints, len(e.Hints.ForZones), maxHints))
	}
	for i, z := range e.Hints.ForZones {
		seen.check(f, hints.Index(i).Child("name"), z.Name)
		f.each(hints.Index(i).Child("name"), z.Name, validation.IsValidLabelValue(z.Name))
	}
}

func validateSliceAddress(f *faults, p *field.Path, a string, t discoveryv1.AddressType) {
	switch t {
	case discoveryv1.AddressTypeFQDN:
		f.add(validation.IsFullyQualifiedDomainName(p, a)...)
		return
	case discoveryv1.AddressTypeIPv4:
		if !netutils.IsIPv4String(a) {
			f.invalid(p, a, "must be an IPv4 address")
			return
		}
	case discoveryv1.AddressTypeIPv6:
		if !netutils.IsIPv6String(a) {
			f.invalid(p, a, "must be an IPv6 address")
			return
		}
	}
	validateIP(f, p, a)
	ordinaryIP(f, p, a)
}
