// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	storagev1 "k8s.io/api/storage/v1"
	storagev1alpha1 "k8s.io/api/storage/v1alpha1"
	storagev1beta1 "k8s.io/api/storage/v1beta1"
)

// VolumeAttributesClass is storage.k8s.io/v1 VolumeAttributesClass: what of a volume may change while it is used.
var VolumeAttributesClass = Kind[storagev1.VolumeAttributesClass]{
	Group: "storage.k8s.io", Version: "v1", Name: "VolumeAttributesClass", Plural: "volumeattributesclasses", Short: []string{"vac"}, Cluster: true,
	Validate:       validateAttributesClass,
	ValidateUpdate: validateAttributesClassUpdate,
	Served: []Served[storagev1.VolumeAttributesClass]{
		Alike[storagev1.VolumeAttributesClass, storagev1beta1.VolumeAttributesClass]("storage.k8s.io", "v1beta1", nil, nil),
		Alike[storagev1.VolumeAttributesClass, storagev1alpha1.VolumeAttributesClass]("storage.k8s.io", "v1alpha1", nil, nil),
	},
	NoGeneration: true,
	Columns: []Column[storagev1.VolumeAttributesClass]{
		nameColumn[storagev1.VolumeAttributesClass](),
		text("DriverName", "Whose parameters they are.", 0, func(c *storagev1.VolumeAttributesClass) string { return c.DriverName }),
		ageColumn[storagev1.VolumeAttributesClass](),
	},
}
