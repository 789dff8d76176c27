// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

//lint:ignore SA1019 superseded by EndpointSlice, but served as long as clients read it
type endpoints = corev1.Endpoints

// Endpoints is core/v1 Endpoints, for clients from before EndpointSlice.
var Endpoints = Kind[endpoints]{
	Version: "v1", Name: "Endpoints", Plural: "endpoints", Short: []string{"ep"}, Storage: "services/endpoints",
	NoGeneration: true,
	Default: func(e *endpoints) {
		for i := range e.Subsets {
			for j := range e.Subsets[i].Ports {
				or(&e.Subsets[i].Ports[j].Protocol, corev1.ProtocolTCP)
			}
		}
	},
	Validate: validateEndpoints,
	Columns: []Column[endpoints]{
		nameColumn[endpoints](),
		text("Endpoints", "The first addresses, with ports.", 0, endpointsText),
		ageColumn[endpoints](),
	},
}

func validateEndpoints(e *endpoints) field.ErrorList {
	f := &faults{}
	for i := range e.Subsets {
		s, at := &e.Subsets[i], field.NewPath("subsets").Index(i)
		if len(s.Addresses)+len(s.NotReadyAddresses) == 0 {
			f.required(at, "must specify `addresses` or `notReadyAddresses`")
		}
		for j := range s.Addresses {
			validateEndpointAddress(f, at.Child("addresses").Index(j), &s.Addresses[j])
		}
		for j := range s.NotReadyAddresses {
			validateEndpointAddress(f, at.Child("notReadyAddresses").Index(j), &s.NotReadyAddresses[j])
		}
		for j := range s.Ports {
			p, at := &s.Ports[j], at.Child("ports").Index(j)
			switch {
			case p.Name != "":
				f.each(at.Child("name"), p.Name, validation.IsDNS1123Label(p.Name))
			case len(s.Ports) > 1:
				f.required(at.Child("name"), "")
			}
			f.port(at.Child("port"), p.Port)
			validateProtocol(f, at.Child("protocol"), p.Protocol)
			if a := p.AppProtocol; a != nil {
				f.each(at.Child("appProtocol"), *a, validation.IsQualifiedName(*a))
			}
		}
	}
	return f.list
}

func validateEndpointAddress(f *faults, p *field.Path, a *corev1.EndpointAddress) {
	validateIP(f, p.Child("ip"), a.IP)
	ordinaryIP(f, p.Child("ip"), a.IP)
	if a.Hostname != "" {
		f.each(p.Child("hostname"), a.Hostname, validation.IsDNS1123Label(a.Hostname))
	}
	if a.NodeName != nil {
		f.each(p.Child("nodeName"), *a.NodeName, validation.IsDNS1123Subdomain(*a.NodeName))
	}
}

func endpointsText(e *endpoints) string {
	list := []string{}
	for _, s := range e.Subsets {
		if len(s.Ports) == 0 {
			for _, a := range s.Addresses {
				list = append(list, a.IP)
			}
		}
		for _, p := range s.Ports {
			for _, a := range s.Addresses {
				list = append(list, net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
			}
		}
	}
	return orNone(first3(list))
}
