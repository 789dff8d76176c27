// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// Dynamic resource allocation (resource.k8s.io/v1): drivers publish devices in slices, pods claim them.
var (
	DeviceClass = Kind[resourcev1.DeviceClass]{
		Group: "resource.k8s.io", Version: "v1", Name: "DeviceClass", Plural: "deviceclasses", Cluster: true,
		Validate: validateDeviceClass,
		Served:   deviceClassVersions,
		Columns:  []Column[resourcev1.DeviceClass]{nameColumn[resourcev1.DeviceClass](), ageColumn[resourcev1.DeviceClass]()},
	}
	ResourceClaim = Kind[resourcev1.ResourceClaim]{
		Group: "resource.k8s.io", Version: "v1", Name: "ResourceClaim", Plural: "resourceclaims",
		Validate:       validateResourceClaim,
		ValidateUpdate: validateResourceClaimUpdate,
		Served:         resourceClaimVersions,
		HasStatus:      true, NoGeneration: true,
		Default: func(c *resourcev1.ResourceClaim) { defaultDevices(&c.Spec.Devices) },
		Columns: []Column[resourcev1.ResourceClaim]{
			nameColumn[resourcev1.ResourceClaim](),
			text("State", "pending, allocated, reserved, deleted.", 0, claimState),
			ageColumn[resourcev1.ResourceClaim](),
		},
	}
	ResourceClaimTemplate = Kind[resourcev1.ResourceClaimTemplate]{
		Group: "resource.k8s.io", Version: "v1", Name: "ResourceClaimTemplate", Plural: "resourceclaimtemplates",
		Validate:       validateClaimTemplate,
		ValidateUpdate: validateClaimTemplateUpdate,
		Served:         claimTemplateVersions,
		NoGeneration:   true,
		Default:        func(t *resourcev1.ResourceClaimTemplate) { defaultDevices(&t.Spec.Spec.Devices) },
		Columns:        []Column[resourcev1.ResourceClaimTemplate]{nameColumn[resourcev1.ResourceClaimTemplate](), ageColumn[resourcev1.ResourceClaimTemplate]()},
	}
	ResourceSlice = Kind[resourcev1.ResourceSlice]{
		Group: "resource.k8s.io", Version: "v1", Name: "ResourceSlice", Plural: "resourceslices", Cluster: true,
		Validate:       validateResourceSlice,
		ValidateUpdate: validateResourceSliceUpdate,
		Served:         resourceSliceVersions,
		BeforeCreate:   func(s *resourcev1.ResourceSlice) { stampTaints(s.Spec.Devices, s.CreationTimestamp) },
		Fields: func(s *resourcev1.ResourceSlice) fields.Set {
			return fields.Set{
				resourcev1.ResourceSliceSelectorNodeName: either(s.Spec.NodeName, ""),
				resourcev1.ResourceSliceSelectorDriver:   s.Spec.Driver,
			}
		},
		Columns: []Column[resourcev1.ResourceSlice]{
			nameColumn[resourcev1.ResourceSlice](),
			text("Node", "Where the devices are.", 0, func(s *resourcev1.ResourceSlice) string { return either(s.Spec.NodeName, "") }),
			text("Driver", "Whose they are.", 0, func(s *resourcev1.ResourceSlice) string { return s.Spec.Driver }),
			text("Pool", "The pool they belong to.", 0, func(s *resourcev1.ResourceSlice) string { return s.Spec.Pool.Name }),
			ageColumn[resourcev1.ResourceSlice](),
		},
	}
	DeviceTaintRule = Kind[resourcev1.DeviceTaintRule]{
		Group: "resource.k8s.io", Version: "v1", Name: "DeviceTaintRule", Plural: "devicetaintrules", Cluster: true,
		Validate:  validateTaintRule,
		Served:    taintRuleVersions,
		HasStatus: true,
		BeforeCreate: func(r *resourcev1.DeviceTaintRule) {
			if r.Spec.Taint.TimeAdded == nil {
				r.Spec.Taint.TimeAdded = r.CreationTimestamp.DeepCopy()
			}
		},
		Columns: []Column[resourcev1.DeviceTaintRule]{
			nameColumn[resourcev1.DeviceTaintRule](),
			text("Key", "The taint's key.", 0, func(r *resourcev1.DeviceTaintRule) string { return r.Spec.Taint.Key }),
			text("Value", "The taint's value.", 0, func(r *resourcev1.DeviceTaintRule) string { return r.Spec.Taint.Value }),
			text("Effect", "What it does to pods.", 0, func(r *resourcev1.DeviceTaintRule) string { return string(r.Spec.Taint.Effect) }),
			since("TimeAdded", "Since when.", func(r *resourcev1.DeviceTaintRule) *metav1.Time { return r.Spec.Taint.TimeAdded }),
			ageColumn[resourcev1.DeviceTaintRule](),
		},
	}
)

func stampTaints(devices []resourcev1.Device, now metav1.Time) {
	for i := range devices {
		for k := range devices[i].Taints {
			if t := &devices[i].Taints[k]; t.TimeAdded == nil {
				t.TimeAdded = now.DeepCopy()
			}
		}
	}
}

// defaultDevices: a request is for exactly one device.
func defaultDevices(c *resourcev1.DeviceClaim) {
	one := func(mode *resourcev1.DeviceAllocationMode, count *int64) {
		or(mode, resourcev1.DeviceAllocationModeExactCount)
		if *mode == resourcev1.DeviceAllocationModeExactCount {
			or(count, 1)
		}
	}
	for i := range c.Requests {
		r := &c.Requests[i]
		if r.Exactly != nil {
			one(&r.Exactly.AllocationMode, &r.Exactly.Count)
		}
		for k := range r.FirstAvailable {
			one(&r.FirstAvailable[k].AllocationMode, &r.FirstAvailable[k].Count)
		}
	}
}

func claimState(c *resourcev1.ResourceClaim) string {
	var list []string
	if c.DeletionTimestamp != nil {
		list = append(list, "deleted")
	}
	switch {
	case c.Status.Allocation == nil && c.DeletionTimestamp == nil:
		list = append(list, "pending")
	case c.Status.Allocation != nil:
		list = append(list, "allocated")
		if len(c.Status.ReservedFor) > 0 {
			list = append(list, "reserved")
		}
	}
	return strings.Join(list, ",")
}
