// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	storagev1beta1 "k8s.io/api/storage/v1beta1"
)

// The annotations that make a StorageClass the default; the second is the older.
const (
	DefaultStorageClassAnnotation     = "storageclass.kubernetes.io/is-default-class"
	betaDefaultStorageClassAnnotation = "storageclass.beta.kubernetes.io/is-default-class"
)

// StorageClass is storage.k8s.io/v1 StorageClass.
var StorageClass = Kind[storagev1.StorageClass]{
	Group: "storage.k8s.io", Version: "v1", Name: "StorageClass", Plural: "storageclasses", Short: []string{"sc"}, Cluster: true,
	Validate: validateStorageClass, ValidateUpdate: validateStorageClassUpdate,
	Served:       []Served[storagev1.StorageClass]{Alike[storagev1.StorageClass, storagev1beta1.StorageClass]("storage.k8s.io", "v1beta1", nil, nil)},
	NoGeneration: true,
	Default: func(c *storagev1.StorageClass) {
		orSet(&c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
		orSet(&c.VolumeBindingMode, storagev1.VolumeBindingImmediate)
	},
	Columns: []Column[storagev1.StorageClass]{
		defaultNameColumn[storagev1.StorageClass](DefaultStorageClassAnnotation, betaDefaultStorageClassAnnotation),
		text("Provisioner", "Who makes its volumes.", 0, func(c *storagev1.StorageClass) string { return c.Provisioner }),
		text("ReclaimPolicy", "What happens to a volume when its claim is deleted.", 0, func(c *storagev1.StorageClass) string {
			return string(either(c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete))
		}),
		text("VolumeBindingMode", "When volumes are made.", 0, func(c *storagev1.StorageClass) string {
			return string(either(c.VolumeBindingMode, storagev1.VolumeBindingImmediate))
		}),
		flag("AllowVolumeExpansion", "Whether volumes may grow.", func(c *storagev1.StorageClass) bool { return isTrue(c.AllowVolumeExpansion) }),
		ageColumn[storagev1.StorageClass](),
	},
}
