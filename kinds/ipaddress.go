// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	networkingv1 "k8s.io/api/networking/v1"
	networkingv1beta1 "k8s.io/api/networking/v1beta1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// IPAddress is networking.k8s.io/v1 IPAddress: who has a service address. Its name is the address.
var IPAddress = Kind[networkingv1.IPAddress]{
	Group: "networking.k8s.io", Version: "v1", Name: "IPAddress", Plural: "ipaddresses", Short: []string{"ip"}, Cluster: true,
	Validate:       validateIPAddress,
	ValidateUpdate: validateIPAddressUpdate,
	ValidateName:   addressName,
	Served:         []Served[networkingv1.IPAddress]{Alike[networkingv1.IPAddress, networkingv1beta1.IPAddress]("networking.k8s.io", "v1beta1", nil, nil)},
	NoGeneration:   true,
	Columns: []Column[networkingv1.IPAddress]{
		nameColumn[networkingv1.IPAddress](),
		text("ParentRef", "Who has it.", 0, func(a *networkingv1.IPAddress) string {
			p := a.Spec.ParentRef
			if p == nil {
				return none
			}
			out := schema.GroupResource{Group: p.Group, Resource: p.Resource}.String()
			if p.Namespace != "" {
				out += "/" + p.Namespace
			}
			return out + "/" + p.Name
		}),
		ageColumn[networkingv1.IPAddress](),
	},
}
