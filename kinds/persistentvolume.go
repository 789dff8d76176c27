// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// PersistentVolume is core/v1 PersistentVolume: a piece of storage in the cluster.
var PersistentVolume = Kind[corev1.PersistentVolume]{
	Version: "v1", Name: "PersistentVolume", Plural: "persistentvolumes", Short: []string{"pv"}, Cluster: true,
	Validate: validatePersistentVolume, ValidateUpdate: validatePersistentVolumeUpdate,
	HasStatus: true, NoGeneration: true,
	Default:      defaultPersistentVolume,
	Columns:      persistentVolumeColumns,
	Fields:       func(v *corev1.PersistentVolume) fields.Set { return fields.Set{"name": v.Name} },
	BeforeCreate: func(v *corev1.PersistentVolume) { v.Status.Phase = corev1.VolumePending },
}

func defaultPersistentVolume(v *corev1.PersistentVolume) {
	s := &v.Spec
	or(&v.Status.Phase, corev1.VolumePending)
	or(&s.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimRetain)
	orSet(&s.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundUp(s.Capacity)
	src := &s.PersistentVolumeSource
	switch {
	case src.HostPath != nil:
		orSet(&src.HostPath.Type, corev1.HostPathUnset)
	case src.ISCSI != nil:
		or(&src.ISCSI.ISCSIInterface, "default")
	case src.RBD != nil:
		or(&src.RBD.RBDPool, "rbd")
		or(&src.RBD.RadosUser, "admin")
		or(&src.RBD.Keyring, "/etc/ceph/keyring")
	case src.AzureDisk != nil:
		orSet(&src.AzureDisk.CachingMode, corev1.AzureDataDiskCachingReadWrite)
		orSet(&src.AzureDisk.Kind, corev1.AzureSharedBlobDisk)
		orSet(&src.AzureDisk.FSType, "ext4")
		orSet(&src.AzureDisk.ReadOnly, false)
	case src.ScaleIO != nil:
		or(&src.ScaleIO.StorageMode, "ThinProvisioned")
		or(&src.ScaleIO.FSType, "xfs")
	}
}

// storageClass is the class a volume or claim names, by the field or by the annotation that came before it.
func storageClass(annotations map[string]string, field string) string {
	if c, ok := annotations[corev1.BetaStorageClassAnnotation]; ok {
		return c
	}
	return field
}

// accessModes are the modes in their short form, in a fixed order, each once.
func accessModes(modes []corev1.PersistentVolumeAccessMode) string {
	var out []string
	for _, m := range []struct {
		mode  corev1.PersistentVolumeAccessMode
		short string
	}{
		{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"}, {corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"},
	} {
		if slices.Contains(modes, m.mode) {
			out = append(out, m.short)
		}
	}
	return strings.Join(out, ",")
}

// phase is a status word, unless the object is on its way out.
func phase[T any](o *T, p string) string {
	if meta(o).GetDeletionTimestamp() != nil {
		return "Terminating"
	}
	return p
}

var persistentVolumeColumns = []Column[corev1.PersistentVolume]{
	nameColumn[corev1.PersistentVolume](),
	text("Capacity", "How much it holds.", 0, func(v *corev1.PersistentVolume) string {
		q := v.Spec.Capacity[corev1.ResourceStorage]
		return q.String()
	}),
	text("Access Modes", "How it may be mounted.", 0, func(v *corev1.PersistentVolume) string { return accessModes(v.Spec.AccessModes) }),
	text("Reclaim Policy", "What happens to it when its claim is deleted.", 0, func(v *corev1.PersistentVolume) string {
		return string(v.Spec.PersistentVolumeReclaimPolicy)
	}),
	text("Status", "Pending, Available, Bound, Released or Failed.", 0, func(v *corev1.PersistentVolume) string {
		return phase(v, string(v.Status.Phase))
	}),
	text("Claim", "The claim it is bound to.", 0, func(v *corev1.PersistentVolume) string {
		if r := v.Spec.ClaimRef; r != nil {
			return r.Namespace + "/" + r.Name
		}
		return ""
	}),
	text("StorageClass", "Its class.", 0, func(v *corev1.PersistentVolume) string {
		return storageClass(v.Annotations, v.Spec.StorageClassName)
	}),
	text("VolumeAttributesClass", "The class of its mutable attributes.", 0, func(v *corev1.PersistentVolume) string {
		return either(v.Spec.VolumeAttributesClassName, unset)
	}),
	text("Reason", "Why it is in its state.", 0, func(v *corev1.PersistentVolume) string { return v.Status.Reason }),
	ageColumn[corev1.PersistentVolume](),
	text("VolumeMode", "Filesystem or Block.", wide, func(v *corev1.PersistentVolume) string {
		return string(either(v.Spec.VolumeMode, unset))
	}),
}
