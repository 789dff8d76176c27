// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	storagev1beta1 "k8s.io/api/storage/v1beta1"
	"strings"

	storagev1 "k8s.io/api/storage/v1"
)

// CSIDriver is storage.k8s.io/v1 CSIDriver: what a storage driver needs and can do.
var CSIDriver = Kind[storagev1.CSIDriver]{
	Group: "storage.k8s.io", Version: "v1", Name: "CSIDriver", Plural: "csidrivers", Cluster: true,
	Validate:       validateCSIDriver,
	ValidateUpdate: validateCSIDriverUpdate,
	Served:         []Served[storagev1.CSIDriver]{Alike[storagev1.CSIDriver, storagev1beta1.CSIDriver]("storage.k8s.io", "v1beta1", nil, nil)},
	NoGeneration:   true,
	Default: func(d *storagev1.CSIDriver) {
		s := &d.Spec
		orSet(&s.AttachRequired, true)
		orSet(&s.PodInfoOnMount, false)
		orSet(&s.StorageCapacity, false)
		orSet(&s.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
		if len(s.VolumeLifecycleModes) == 0 {
			s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
		}
		orSet(&s.RequiresRepublish, false)
		orSet(&s.SELinuxMount, false)
	},
	Columns: []Column[storagev1.CSIDriver]{
		nameColumn[storagev1.CSIDriver](),
		flag("AttachRequired", "Whether volumes are attached to nodes first.", func(d *storagev1.CSIDriver) bool { return either(d.Spec.AttachRequired, true) }),
		flag("PodInfoOnMount", "Whether it is told of the pod.", func(d *storagev1.CSIDriver) bool { return isTrue(d.Spec.PodInfoOnMount) }),
		flag("StorageCapacity", "Whether the scheduler asks for room.", func(d *storagev1.CSIDriver) bool { return isTrue(d.Spec.StorageCapacity) }),
		text("TokenRequests", "Audiences of the tokens it wants.", 0, func(d *storagev1.CSIDriver) string {
			if d.Spec.TokenRequests == nil {
				return unset
			}
			list := []string{}
			for _, t := range d.Spec.TokenRequests {
				list = append(list, t.Audience)
			}
			return strings.Join(list, ",")
		}),
		flag("RequiresRepublish", "Whether it is called again for mounted volumes.", func(d *storagev1.CSIDriver) bool { return isTrue(d.Spec.RequiresRepublish) }),
		text("Modes", "Persistent, Ephemeral.", 0, func(d *storagev1.CSIDriver) string {
			list := []string{}
			for _, m := range d.Spec.VolumeLifecycleModes {
				list = append(list, string(m))
			}
			return orNone(strings.Join(list, ","))
		}),
		ageColumn[storagev1.CSIDriver](),
	},
}
