// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"math"
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds of what drivers may write.
const (
	mostParameters     = 512
	longestParameters  = 256 << 10
	longestVolumeError = 1024
	longestNodeID      = 256
)

// validateDriver: the name of a storage driver.
func validateDriver(f *faults, p *field.Path, name string) {
	if !f.need(p, name) {
		return
	}
	if len(name) > 63 {
		f.add(field.TooLong(p, "", 63))
	}
	f.each(p, name, validation.IsDNS1123Subdomain(strings.ToLower(name)))
}

func validateCSIDriver(d *storagev1.CSIDriver) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &d.Spec
	if v := s.FSGroupPolicy; v != nil {
		supported(f, p.Child("fsGroupPolicy"), *v, storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
	}
	audiences := map[string]bool{}
	for i, t := range s.TokenRequests {
		at := p.Child("tokenRequests").Index(i)
		if audiences[t.Audience] {
			f.add(field.Duplicate(at.Child("audience"), t.Audience))
			continue
		}
		audiences[t.Audience] = true
		if e := t.ExpirationSeconds; e != nil {
			validateExpiration(f, at.Child("expirationSeconds"), *e)
		}
	}
	for _, m := range s.VolumeLifecycleModes {
		supported(f, p.Child("volumeLifecycleModes"), m, storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral)
	}
	if v := s.NodeAllocatableUpdatePeriodSeconds; v != nil && *v < 10 {
		f.invalid(p.Child("nodeAllocatableUpdatePeriodSeconds"), *v, "must be greater than or equal to 10 seconds")
	}
	if v := s.ServiceAccountTokenInSecrets; v != nil && len(s.TokenRequests) == 0 {
		f.invalid(p.Child("serviceAccountTokenInSecrets"), *v, "serviceAccountTokenInSecrets is set but no tokenRequests are specified")
	}
	return f.list
}

// validateExpiration: how long a token may live.
func validateExpiration(f *faults, p *field.Path, seconds int64) {
	if seconds < 10*60 {
		f.invalid(p, seconds, "may not specify a duration less than 10 minutes")
	}
	if seconds > 1<<32 {
		f.invalid(p, seconds, "may not specify a duration larger than 2^32 seconds")
	}
}

func validateCSIDriverUpdate(new, old *storagev1.CSIDriver) field.ErrorList {
	f := &faults{}
	p := field.NewPath("spec")
	f.immutable(p.Child("attachedRequired"), new.Spec.AttachRequired, old.Spec.AttachRequired) // upstream's word for it
	f.immutable(p.Child("volumeLifecycleModes"), new.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes)
	return f.list
}

func validateCSINode(n *storagev1.CSINode) field.ErrorList {
	f, names := &faults{}, unique{}
	for i := range n.Spec.Drivers {
		d, at := &n.Spec.Drivers[i], field.NewPath("spec", "drivers").Index(i)
		validateDriver(f, at.Child("name"), d.Name)
		names.check(f, at.Child("name"), d.Name)
		f.need(at.Child("nodeID"), d.NodeID)
		if len(d.NodeID) > longestNodeID {
			f.invalid(at.Child("nodeID"), d.NodeID, fmt.Sprintf("must be %d characters or less", longestNodeID))
		}
		if a := d.Allocatable; a != nil && a.Count != nil {
			f.nonNegative(at.Child("allocatable", "count"), int64(*a.Count))
		}
		keys := unique{}
		for _, k := range d.TopologyKeys {
			if f.need(at, k) {
				keys.check(f, at, k)
				f.each(at, k, validation.IsQualifiedName(k))
			}
		}
	}
	return f.list
}

// validateCSINodeUpdate: a driver that is there stays as it is, but for how many volumes it takes.
func validateCSINodeUpdate(new, old *storagev1.CSINode) field.ErrorList {
	f := &faults{}
	for _, was := range old.Spec.Drivers {
		for _, is := range new.Spec.Drivers {
			if was.Name == is.Name {
				was.Allocatable, is.Allocatable = nil, nil
				f.immutable(field.NewPath("spec", "drivers"), is, was)
			}
		}
	}
	return f.list
}

func validateStorageCapacity(c *storagev1.CSIStorageCapacity) field.ErrorList {
	f := &faults{}
	if c.NodeTopology != nil {
		validateSelector(f, field.NewPath("nodeTopology"), c.NodeTopology)
	}
	f.each(field.NewPath("storageClassName"), c.StorageClassName, validation.IsDNS1123Subdomain(c.StorageClassName))
	if q := c.Capacity; q != nil && q.Sign() < 0 {
		f.invalid(field.NewPath("capacity"), q.String(), "must be greater than or equal to 0")
	}
	return f.list
}

func validateStorageCapacityUpdate(new, old *storagev1.CSIStorageCapacity) field.ErrorList {
	f := &faults{}
	f.immutable(field.NewPath("nodeTopology"), new.NodeTopology, old.NodeTopology)
	f.immutable(field.NewPath("storageClassName"), new.StorageClassName, old.StorageClassName)
	return f.list
}

func validateAttachment(a *storagev1.VolumeAttachment) field.ErrorList {
	f := &faults{}
	p, src := field.NewPath("spec"), &a.Spec.Source
	validateDriver(f, p.Child("attacher"), a.Spec.Attacher)
	const one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
	switch name := src.PersistentVolumeName; {
	case src.InlineVolumeSpec == nil && name == nil:
		f.required(p.Child("source"), one)
	case src.InlineVolumeSpec != nil && name != nil:
		f.forbidden(p.Child("source"), one)
	case name != nil && *name == "":
		f.required(p.Child("source", "persistentVolumeName"), "must specify non empty persistentVolumeName")
	case name != nil:
		f.each(p.Child("source", "persistentVolumeName"), *name, validation.IsDNS1123Subdomain(*name))
	}
	f.each(p.Child("nodeName"), a.Spec.NodeName, validation.IsDNS1123Subdomain(a.Spec.NodeName))
	return append(f.list, validateAttachmentStatus(a, nil)...)
}

func validateAttachmentStatus(a, _ *storagev1.VolumeAttachment) field.ErrorList {
	f := &faults{}
	p, size := field.NewPath("status"), 0
	for k, v := range a.Status.AttachmentMetadata {
		size += len(k) + len(v)
	}
	if size > longestParameters {
		f.add(field.TooLong(p.Child("attachmentMetadata"), "", longestParameters))
	}
	for name, e := range map[string]*storagev1.VolumeError{"attachError": a.Status.AttachError, "detachError": a.Status.DetachError} {
		if e == nil {
			continue
		}
		if len(e.Message) > longestVolumeError {
			f.add(field.TooLong(p.Child(name, "message"), "", longestVolumeError))
		}
		if c := e.ErrorCode; c != nil {
			f.between(p.Child(name, "errorCode"), int64(*c), 0, math.MaxInt32)
		}
	}
	return f.list
}

func validateAttachmentUpdate(new, old *storagev1.VolumeAttachment) field.ErrorList {
	f := &faults{}
	f.immutable(field.NewPath("spec"), new.Spec, old.Spec)
	return f.list
}

func validateAttributesClass(c *storagev1.VolumeAttributesClass) field.ErrorList {
	f := &faults{}
	if f.need(field.NewPath("driverName"), c.DriverName) {
		f.each(field.NewPath("driverName"), c.DriverName, validation.IsQualifiedName(strings.ToLower(c.DriverName)))
	}
	validateParameters(f, field.NewPath("parameters"), c.Parameters)
	if len(c.Parameters) == 0 {
		f.required(field.NewPath("parameters"), "must contain at least one key/value pair")
	}
	return f.list
}

// validateParameters: what a driver is told, bounded.
func validateParameters(f *faults, p *field.Path, list map[string]string) {
	if len(list) > mostParameters {
		f.add(field.TooLong(p, "", mostParameters))
		return
	}
	size := 0
	for k, v := range list {
		if k == "" {
			f.invalid(p, k, "field can not be empty.")
		}
		size += len(k) + len(v)
	}
	if size > longestParameters {
		f.add(field.TooLong(p, "", longestParameters))
	}
}

func validateAttributesClassUpdate(new, old *storagev1.VolumeAttributesClass) field.ErrorList {
	f := &faults{}
	if new.DriverName != old.DriverName {
		f.forbidden(field.NewPath("driverName"), "updates to driverName are forbidden.")
	}
	if !equality.Semantic.DeepEqual(new.Parameters, old.Parameters) {
		f.forbidden(field.NewPath("parameters"), "updates to parameters are forbidden.")
	}
	return f.list
}
