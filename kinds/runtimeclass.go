// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	nodev1 "k8s.io/api/node/v1"
)

// RuntimeClass is node.k8s.io/v1 RuntimeClass: which low-level runtime runs a pod, and what that costs.
var RuntimeClass = Kind[nodev1.RuntimeClass]{
	Group: "node.k8s.io", Version: "v1", Name: "RuntimeClass", Plural: "runtimeclasses", Cluster: true,
	NoGeneration: true,
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
