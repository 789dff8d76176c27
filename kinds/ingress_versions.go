// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"reflect"

	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	networkingv1 "k8s.io/api/networking/v1"
	networkingv1beta1 "k8s.io/api/networking/v1beta1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Ingress was an extension first. Both old versions are the same but for the package; a backend's service was flat, and a
// path without a type meant what the controller made of it.
var ingressVersions = []Served[networkingv1.Ingress]{
	Via("networking.k8s.io", "v1beta1", ingressToHub, ingressFromHub).Defaulted(anyPath),
	Via("extensions", "v1beta1", func(in *extensionsv1beta1.Ingress, out *networkingv1.Ingress) {
		var mid networkingv1beta1.Ingress
		copyAlike(reflect.ValueOf(&mid).Elem(), reflect.ValueOf(in).Elem())
		ingressToHub(&mid, out)
	}, func(in *networkingv1.Ingress, out *extensionsv1beta1.Ingress) {
		var mid networkingv1beta1.Ingress
		ingressFromHub(in, &mid)
		copyAlike(reflect.ValueOf(out).Elem(), reflect.ValueOf(&mid).Elem())
	}).Defaulted(anyPath),
}

func anyPath(i *networkingv1.Ingress) {
	for _, r := range i.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for k := range r.HTTP.Paths {
			orSet(&r.HTTP.Paths[k].PathType, networkingv1.PathTypeImplementationSpecific)
		}
	}
}

func ingressToHub(in *networkingv1beta1.Ingress, out *networkingv1.Ingress) {
	copyAlike(reflect.ValueOf(out).Elem(), reflect.ValueOf(in).Elem())
	if in.Spec.Backend != nil {
		out.Spec.DefaultBackend = &networkingv1.IngressBackend{}
		backendToHub(in.Spec.Backend, out.Spec.DefaultBackend)
	}
	for i := range in.Spec.Rules {
		if in.Spec.Rules[i].HTTP == nil {
			continue
		}
		for k := range in.Spec.Rules[i].HTTP.Paths {
			from, to := &in.Spec.Rules[i].HTTP.Paths[k], &out.Spec.Rules[i].HTTP.Paths[k]
			backendToHub(&from.Backend, &to.Backend)
		}
	}
}

func backendToHub(in *networkingv1beta1.IngressBackend, out *networkingv1.IngressBackend) {
	out.Resource = in.Resource
	if in.ServiceName == "" && in.ServicePort == (intstr.IntOrString{}) {
		return
	}
	out.Service = &networkingv1.IngressServiceBackend{Name: in.ServiceName}
	if in.ServicePort.Type == intstr.String {
		out.Service.Port.Name = in.ServicePort.StrVal
	} else {
		out.Service.Port.Number = in.ServicePort.IntVal
	}
}

func ingressFromHub(in *networkingv1.Ingress, out *networkingv1beta1.Ingress) {
	copyAlike(reflect.ValueOf(out).Elem(), reflect.ValueOf(in).Elem())
	if in.Spec.DefaultBackend != nil {
		out.Spec.Backend = &networkingv1beta1.IngressBackend{}
		backendFromHub(in.Spec.DefaultBackend, out.Spec.Backend)
	}
	for i := range in.Spec.Rules {
		if in.Spec.Rules[i].HTTP == nil {
			continue
		}
		for k := range in.Spec.Rules[i].HTTP.Paths {
			backendFromHub(&in.Spec.Rules[i].HTTP.Paths[k].Backend, &out.Spec.Rules[i].HTTP.Paths[k].Backend)
		}
	}
}

func backendFromHub(in *networkingv1.IngressBackend, out *networkingv1beta1.IngressBackend) {
	out.Resource = in.Resource
	if in.Service == nil {
		return
	}
	out.ServiceName = in.Service.Name
	if p := in.Service.Port; p.Name != "" {
		out.ServicePort = intstr.FromString(p.Name)
	} else {
		out.ServicePort = intstr.FromInt32(p.Number)
	}
}
