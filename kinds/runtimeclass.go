// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"reflect"

	nodev1 "k8s.io/api/node/v1"
	nodev1alpha1 "k8s.io/api/node/v1alpha1"
	nodev1beta1 "k8s.io/api/node/v1beta1"
)

// RuntimeClass is node.k8s.io/v1 RuntimeClass: which low-level runtime runs a pod, and what that costs.
var RuntimeClass = Kind[nodev1.RuntimeClass]{
	Group: "node.k8s.io", Version: "v1", Name: "RuntimeClass", Plural: "runtimeclasses", Cluster: true,
	Validate:       validateRuntimeClass,
	ValidateUpdate: validateRuntimeClassUpdate,
	Served:         runtimeClassVersions,
	NoGeneration:   true,
	Default: func(c *nodev1.RuntimeClass) {
		if c.Overhead != nil {
			roundUp(c.Overhead.PodFixed)
		}
	},
	Columns: []Column[nodev1.RuntimeClass]{
		nameColumn[nodev1.RuntimeClass](),
		text("Handler", "The runtime's name on the node.", 0, func(c *nodev1.RuntimeClass) string { return c.Handler }),
		ageColumn[nodev1.RuntimeClass](),
	},
}

// In v1alpha1 the fields were in a spec.
var runtimeClassVersions = []Served[nodev1.RuntimeClass]{
	Alike[nodev1.RuntimeClass, nodev1beta1.RuntimeClass]("node.k8s.io", "v1beta1", nil, nil),
	Alike("node.k8s.io", "v1alpha1", func(in *nodev1alpha1.RuntimeClass, out *nodev1.RuntimeClass) {
		copyAlike(reflect.ValueOf(out).Elem(), reflect.ValueOf(&in.Spec).Elem())
		out.Handler = in.Spec.RuntimeHandler
	}, func(in *nodev1.RuntimeClass, out *nodev1alpha1.RuntimeClass) {
		copyAlike(reflect.ValueOf(&out.Spec).Elem(), reflect.ValueOf(in).Elem())
		out.Spec.RuntimeHandler = in.Handler
	}),
}
