// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	networkingv1beta1 "k8s.io/api/networking/v1beta1"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
)

// ServiceCIDR is networking.k8s.io/v1 ServiceCIDR: the ranges that service addresses come from.
var ServiceCIDR = Kind[networkingv1.ServiceCIDR]{
	Group: "networking.k8s.io", Version: "v1", Name: "ServiceCIDR", Plural: "servicecidrs", Cluster: true,
	Validate:       validateServiceCIDR,
	ValidateUpdate: validateServiceCIDRUpdate,
	Served:         []Served[networkingv1.ServiceCIDR]{Alike[networkingv1.ServiceCIDR, networkingv1beta1.ServiceCIDR]("networking.k8s.io", "v1beta1", nil, nil)},
	HasStatus:      true, NoGeneration: true,
	Columns: []Column[networkingv1.ServiceCIDR]{
		nameColumn[networkingv1.ServiceCIDR](),
		text("CIDRs", "The ranges, one a family.", 0, func(c *networkingv1.ServiceCIDR) string { return strings.Join(c.Spec.CIDRs, ",") }),
		ageColumn[networkingv1.ServiceCIDR](),
	},
}
