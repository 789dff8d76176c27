// SPDX-License-Identifier: Apache-2.0

package endpointslice

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/knarr/knarr/controllers/pods"
)

// endpoint is one pod as an endpoint of a Service; false if it has no address of the family, or has ended.
func endpoint(s *State, p *corev1.Pod, family discoveryv1.AddressType) (discoveryv1.Endpoint, bool) {
	ip := Address(p, family)
	if ip == "" || pods.Ended(p) {
		return discoveryv1.Endpoint{}, false
	}
	ready := pods.Ready(p)
	terminating := p.DeletionTimestamp != nil
	publish := s.Service.Spec.PublishNotReadyAddresses
	serving := ready || publish && !terminating
	admitted := publish || ready && !terminating
	e := discoveryv1.Endpoint{
		Addresses:  []string{ip},
		Conditions: discoveryv1.EndpointConditions{Ready: &admitted, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
	}
	if p.Spec.NodeName != "" {
		e.NodeName = &p.Spec.NodeName
		if zone := s.Zones[p.Spec.NodeName]; zone != "" {
			e.Zone = &zone
		}
	}
	if p.Spec.Hostname != "" && p.Spec.Subdomain == s.Service.Name {
		e.Hostname = &p.Spec.Hostname
	}
	return e, true
}

// Address is the first address of a pod in a family; "" if it has none.
func Address(p *corev1.Pod, family discoveryv1.AddressType) string {
	ips := p.Status.PodIPs
	if len(ips) == 0 && p.Status.PodIP != "" {
		ips = []corev1.PodIP{{IP: p.Status.PodIP}}
	}
	for _, ip := range ips {
		a, err := netip.ParseAddr(ip.IP)
		if err == nil && a.Is4() == (family == discoveryv1.AddressTypeIPv4) {
			return ip.IP
		}
	}
	return ""
}

// families are the address types of a Service. One without (it was made before there were any) has IPv4.
func families(svc *corev1.Service) []discoveryv1.AddressType {
	var out []discoveryv1.AddressType
	for _, f := range svc.Spec.IPFamilies {
		out = append(out, discoveryv1.AddressType(f))
	}
	if len(out) == 0 {
		out = append(out, discoveryv1.AddressTypeIPv4)
	}
	return out
}

// ports are a Service's ports as they are on one pod; a named port that the pod does not have is left out.
func ports(svc *corev1.Service, p *corev1.Pod) []discoveryv1.EndpointPort {
	var out []discoveryv1.EndpointPort
	for i := range svc.Spec.Ports {
		sp := &svc.Spec.Ports[i]
		n := TargetPort(sp, p)
		if n == 0 {
			continue
		}
		out = append(out, discoveryv1.EndpointPort{Name: &sp.Name, Protocol: &sp.Protocol, Port: &n, AppProtocol: sp.AppProtocol})
	}
	return out
}

// TargetPort is the number of a Service's port on a pod; 0 if the pod has no port of that name and protocol.
func TargetPort(sp *corev1.ServicePort, p *corev1.Pod) int32 {
	if sp.TargetPort.Type == intstr.Int {
		if sp.TargetPort.IntVal == 0 {
			return sp.Port
		}
		return sp.TargetPort.IntVal
	}
	lists := [][]corev1.Container{p.Spec.Containers}
	for i := range p.Spec.InitContainers { // sidecars serve too
		if r := p.Spec.InitContainers[i].RestartPolicy; r != nil && *r == corev1.ContainerRestartPolicyAlways {
			lists = append(lists, p.Spec.InitContainers[i:i+1])
		}
	}
	for _, containers := range lists {
		for _, c := range containers {
			for _, port := range c.Ports {
				if port.Name == sp.TargetPort.StrVal && cmp.Or(port.Protocol, corev1.ProtocolTCP) == cmp.Or(sp.Protocol, corev1.ProtocolTCP) {
					return port.ContainerPort
				}
			}
		}
	}
	return 0
}

// portsKey tells sets of ports apart.
func portsKey(ports []discoveryv1.EndpointPort) string {
	parts := make([]string, len(ports))
	for i, p := range ports {
		parts[i] = strings.Join([]string{deref(p.Name), string(deref(p.Protocol)), strconv.Itoa(int(deref(p.Port))), deref(p.AppProtocol)}, "|")
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
