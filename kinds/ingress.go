// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
)

// Ingress is networking.k8s.io/v1 Ingress, stored in the folder it had when it was an extension.
var Ingress = Kind[networkingv1.Ingress]{
	Group: "networking.k8s.io", Version: "v1", Name: "Ingress", Plural: "ingresses", Short: []string{"ing"},
	Validate:  validateIngress,
	Served:    ingressVersions,
	Storage:   "ingress",
	HasStatus: true,
	Columns: []Column[networkingv1.Ingress]{
		nameColumn[networkingv1.Ingress](),
		text("Class", "Which controller serves it.", 0, func(i *networkingv1.Ingress) string { return either(i.Spec.IngressClassName, none) }),
		text("Hosts", "The hosts it answers for.", 0, ingressHosts),
		text("Address", "Where it is reached.", 0, ingressAddress),
		text("Ports", "Its ports.", 0, func(i *networkingv1.Ingress) string {
			if len(i.Spec.TLS) > 0 {
				return "80, 443"
			}
			return "80"
		}),
		ageColumn[networkingv1.Ingress](),
	},
}

func ingressHosts(i *networkingv1.Ingress) string {
	const most = 3
	list, more := []string{}, false
	for _, r := range i.Spec.Rules {
		if len(list) == most {
			more = true
		} else if r.Host != "" {
			list = append(list, r.Host)
		}
	}
	switch {
	case len(list) == 0:
		return "*"
	case more:
		return fmt.Sprintf("%s + %d more...", strings.Join(list, ","), len(i.Spec.Rules)-most)
	}
	return strings.Join(list, ",")
}

func ingressAddress(i *networkingv1.Ingress) string {
	list := []string{}
	for _, at := range i.Status.LoadBalancer.Ingress {
		if a := orElse(at.IP, at.Hostname); a != "" {
			list = append(list, a)
		}
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), ",")
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
