// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	storagev1 "k8s.io/api/storage/v1"
	storagev1alpha1 "k8s.io/api/storage/v1alpha1"
	storagev1beta1 "k8s.io/api/storage/v1beta1"
)

// VolumeAttachment is storage.k8s.io/v1 VolumeAttachment: the wish that a volume be attached to a node.
var VolumeAttachment = Kind[storagev1.VolumeAttachment]{
	Group: "storage.k8s.io", Version: "v1", Name: "VolumeAttachment", Plural: "volumeattachments", Cluster: true,
	Validate:       validateAttachment,
	ValidateUpdate: validateAttachmentUpdate,
	ValidateStatus: validateAttachmentStatus,
	Served: []Served[storagev1.VolumeAttachment]{
		Alike[storagev1.VolumeAttachment, storagev1beta1.VolumeAttachment]("storage.k8s.io", "v1beta1", nil, nil),
		Alike[storagev1.VolumeAttachment, storagev1alpha1.VolumeAttachment]("storage.k8s.io", "v1alpha1", nil, nil),
	},
	HasStatus: true, NoGeneration: true,
	Columns: []Column[storagev1.VolumeAttachment]{
		nameColumn[storagev1.VolumeAttachment](),
		text("Attacher", "Who attaches it.", 0, func(a *storagev1.VolumeAttachment) string { return a.Spec.Attacher }),
		text("PV", "The volume.", 0, func(a *storagev1.VolumeAttachment) string { return either(a.Spec.Source.PersistentVolumeName, "") }),
		text("Node", "The node.", 0, func(a *storagev1.VolumeAttachment) string { return a.Spec.NodeName }),
		flag("Attached", "Whether it is attached.", func(a *storagev1.VolumeAttachment) bool { return a.Status.Attached }),
		ageColumn[storagev1.VolumeAttachment](),
	},
}
