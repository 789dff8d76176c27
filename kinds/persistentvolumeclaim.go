// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// PersistentVolumeClaim is core/v1 PersistentVolumeClaim: what a pod asks of storage.
var PersistentVolumeClaim = Kind[corev1.PersistentVolumeClaim]{
	Version: "v1", Name: "PersistentVolumeClaim", Plural: "persistentvolumeclaims", Short: []string{"pvc"},
	Validate: validateClaim, ValidateUpdate: validateClaimUpdate,
	HasStatus: true, NoGeneration: true,
	Default:      defaultClaim,
	Columns:      claimColumns,
	Fields:       func(c *corev1.PersistentVolumeClaim) fields.Set { return fields.Set{"name": c.Name} },
	BeforeCreate: func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimPending },
}

func defaultClaim(c *corev1.PersistentVolumeClaim) {
	or(&c.Status.Phase, corev1.ClaimPending)
	orSet(&c.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundUp(c.Spec.Resources.Limits)
	roundUp(c.Spec.Resources.Requests)
	roundUp(c.Status.Capacity)
	roundUp(c.Status.AllocatedResources)
}

var claimColumns = []Column[corev1.PersistentVolumeClaim]{
	nameColumn[corev1.PersistentVolumeClaim](),
	text("Status", "Pending, Bound or Lost.", 0, func(c *corev1.PersistentVolumeClaim) string {
		return phase(c, string(c.Status.Phase))
	}),
	text("Volume", "The volume it is bound to.", 0, func(c *corev1.PersistentVolumeClaim) string { return c.Spec.VolumeName }),
	text("Capacity", "How much the volume holds.", 0, func(c *corev1.PersistentVolumeClaim) string {
		if c.Spec.VolumeName == "" {
			return ""
		}
		q := c.Status.Capacity[corev1.ResourceStorage]
		return q.String()
	}),
	text("Access Modes", "How it may be mounted.", 0, func(c *corev1.PersistentVolumeClaim) string {
		if c.Spec.VolumeName == "" {
			return ""
		}
		return accessModes(c.Status.AccessModes)
	}),
	text("StorageClass", "The class asked for.", 0, func(c *corev1.PersistentVolumeClaim) string {
		return storageClass(c.Annotations, either(c.Spec.StorageClassName, ""))
	}),
	text("VolumeAttributesClass", "The class of mutable attributes asked for.", 0, func(c *corev1.PersistentVolumeClaim) string {
		return either(c.Spec.VolumeAttributesClassName, unset)
	}),
	ageColumn[corev1.PersistentVolumeClaim](),
	text("VolumeMode", "Filesystem or Block.", wide, func(c *corev1.PersistentVolumeClaim) string {
		return string(either(c.Spec.VolumeMode, unset))
	}),
}
