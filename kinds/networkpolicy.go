// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	corev1 "k8s.io/api/core/v1"
	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NetworkPolicy is networking.k8s.io/v1 NetworkPolicy.
var NetworkPolicy = Kind[networkingv1.NetworkPolicy]{
	Group: "networking.k8s.io", Version: "v1", Name: "NetworkPolicy", Plural: "networkpolicies", Short: []string{"netpol"},
	Validate: validateNetworkPolicy,
	Served:   []Served[networkingv1.NetworkPolicy]{Alike[networkingv1.NetworkPolicy, extensionsv1beta1.NetworkPolicy]("extensions", "v1beta1", nil, nil)},
	Default:  defaultNetworkPolicy,
	Columns: []Column[networkingv1.NetworkPolicy]{
		nameColumn[networkingv1.NetworkPolicy](),
		text("Pod-Selector", "Which pods it isolates.", 0, func(n *networkingv1.NetworkPolicy) string {
			return metav1.FormatLabelSelector(&n.Spec.PodSelector)
		}),
		ageColumn[networkingv1.NetworkPolicy](),
	},
}

// defaultNetworkPolicy: a policy is about ingress, and about egress if it has rules for it.
func defaultNetworkPolicy(n *networkingv1.NetworkPolicy) {
	s := &n.Spec
	if len(s.PolicyTypes) == 0 {
		s.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(s.Egress) > 0 {
			s.PolicyTypes = append(s.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
	for i := range s.Ingress {
		for k := range s.Ingress[i].Ports {
			orSet(&s.Ingress[i].Ports[k].Protocol, corev1.ProtocolTCP)
		}
	}
	for i := range s.Egress {
		for k := range s.Egress[i].Ports {
			orSet(&s.Egress[i].Ports[k].Protocol, corev1.ProtocolTCP)
		}
	}
}
