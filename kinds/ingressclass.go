// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	networkingv1beta1 "k8s.io/api/networking/v1beta1"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
)

// IngressClass is networking.k8s.io/v1 IngressClass: which controller serves which ingresses.
var IngressClass = Kind[networkingv1.IngressClass]{
	Group: "networking.k8s.io", Version: "v1", Name: "IngressClass", Plural: "ingressclasses", Cluster: true,
	Validate:       validateIngressClass,
	ValidateUpdate: validateIngressClassUpdate,
	Served:         []Served[networkingv1.IngressClass]{Alike[networkingv1.IngressClass, networkingv1beta1.IngressClass]("networking.k8s.io", "v1beta1", nil, nil)},
	Default: func(c *networkingv1.IngressClass) {
		if c.Spec.Parameters != nil {
			orSet(&c.Spec.Parameters.Scope, networkingv1.IngressClassParametersReferenceScopeCluster)
		}
	},
	Columns: []Column[networkingv1.IngressClass]{
		defaultNameColumn[networkingv1.IngressClass](networkingv1.AnnotationIsDefaultIngressClass),
		text("Controller", "Who serves its ingresses.", 0, func(c *networkingv1.IngressClass) string { return c.Spec.Controller }),
		text("Parameters", "What the controller is told besides.", 0, func(c *networkingv1.IngressClass) string {
			p := c.Spec.Parameters
			if p == nil {
				return none
			}
			kind := p.Kind
			if p.APIGroup != nil {
				kind += "." + *p.APIGroup
			}
			return kind + "/" + p.Name
		}),
		ageColumn[networkingv1.IngressClass](),
	},
}

// defaultNameColumn marks the object that an annotation makes the default of its kind.
func defaultNameColumn[T any](annotations ...string) Column[T] {
	c := nameColumn[T]()
	c.Cell = func(o *T, _ time.Time) any {
		for _, a := range annotations {
			if meta(o).GetAnnotations()[a] == "true" {
				return meta(o).GetName() + " (default)"
			}
		}
		return meta(o).GetName()
	}
	return c
}
