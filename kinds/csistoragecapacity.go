// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	storagev1 "k8s.io/api/storage/v1"
	storagev1alpha1 "k8s.io/api/storage/v1alpha1"
	storagev1beta1 "k8s.io/api/storage/v1beta1"
)

// CSIStorageCapacity is storage.k8s.io/v1 CSIStorageCapacity: how much room a driver has where.
var CSIStorageCapacity = Kind[storagev1.CSIStorageCapacity]{
	Group: "storage.k8s.io", Version: "v1", Name: "CSIStorageCapacity", Plural: "csistoragecapacities",
	Validate:       validateStorageCapacity,
	ValidateUpdate: validateStorageCapacityUpdate,
	Served: []Served[storagev1.CSIStorageCapacity]{
		Alike[storagev1.CSIStorageCapacity, storagev1beta1.CSIStorageCapacity]("storage.k8s.io", "v1beta1", nil, nil),
		Alike[storagev1.CSIStorageCapacity, storagev1alpha1.CSIStorageCapacity]("storage.k8s.io", "v1alpha1", nil, nil),
	},
	NoGeneration: true,
	Columns: []Column[storagev1.CSIStorageCapacity]{
		nameColumn[storagev1.CSIStorageCapacity](),
		text("StorageClassName", "The class it is about.", 0, func(c *storagev1.CSIStorageCapacity) string { return c.StorageClassName }),
		text("Capacity", "Room in all.", 0, func(c *storagev1.CSIStorageCapacity) string {
			if c.Capacity == nil {
				return unset
			}
			return c.Capacity.String()
		}),
	},
}
