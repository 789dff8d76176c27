// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	storagev1 "k8s.io/api/storage/v1"
	storagev1beta1 "k8s.io/api/storage/v1beta1"
)

// CSINode is storage.k8s.io/v1 CSINode: the storage drivers on a node.
var CSINode = Kind[storagev1.CSINode]{
	Group: "storage.k8s.io", Version: "v1", Name: "CSINode", Plural: "csinodes", Cluster: true,
	Validate:       validateCSINode,
	ValidateUpdate: validateCSINodeUpdate,
	Served:         []Served[storagev1.CSINode]{Alike[storagev1.CSINode, storagev1beta1.CSINode]("storage.k8s.io", "v1beta1", nil, nil)},
	NoGeneration:   true,
	Columns: []Column[storagev1.CSINode]{
		nameColumn[storagev1.CSINode](),
		number("Drivers", "How many drivers it has.", func(n *storagev1.CSINode) int64 { return int64(len(n.Spec.Drivers)) }),
		ageColumn[storagev1.CSINode](),
	},
}
