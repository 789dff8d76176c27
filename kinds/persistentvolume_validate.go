// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateModes(f *faults, p *field.Path, modes []corev1.PersistentVolumeAccessMode) {
	if len(modes) == 0 {
		f.required(p, "at least 1 access mode is required")
	}
	alone := false
	for _, m := range modes {
		supported(f, p, m, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod)
		alone = alone || m == corev1.ReadWriteOncePod
	}
	if alone && len(modes) > 1 {
		f.forbidden(p, "may not use ReadWriteOncePod with other access modes")
	}
}

func validatePersistentVolume(v *corev1.PersistentVolume) field.ErrorList {
	f := &faults{}
	if a := v.Spec.NodeAffinity; a != nil {
		at := field.NewPath("spec", "nodeAffinity", "required")
		if a.Required == nil {
			f.required(at, "must specify required node constraints")
		} else {
			validateNodeSelector(f, at, a.Required)
		}
	}
	p, s := field.NewPath("spec"), &v.Spec
	validateModes(f, p.Child("accessModes"), s.AccessModes)
	if len(s.Capacity) == 0 {
		f.required(p.Child("capacity"), "")
	}
	if _, ok := s.Capacity[corev1.ResourceStorage]; !ok || len(s.Capacity) > 1 {
		f.add(field.NotSupported(p.Child("capacity"), s.Capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	for name, q := range s.Capacity {
		if q.Sign() <= 0 {
			f.invalid(p.Child("capacity").Key(string(name)), q.String(), "must be greater than zero")
		}
	}
	supported(f, p.Child("persistentVolumeReclaimPolicy"), s.PersistentVolumeReclaimPolicy,
		corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)
	sources, names := reflect.ValueOf(s.PersistentVolumeSource), 0
	for i := range sources.NumField() {
		if sources.Field(i).IsNil() {
			continue
		}
		if names++; names > 1 {
			f.forbidden(p, "may not specify more than 1 volume type")
			break
		}
	}
	if names == 0 {
		f.required(p, "must specify a volume type")
	}
	if h := s.HostPath; h != nil && f.need(p.Child("hostPath", "path"), h.Path) && h.Path == "/" && s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		f.forbidden(p.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'")
	}
	if s.StorageClassName != "" {
		f.each(p.Child("storageClassName"), s.StorageClassName, validation.IsDNS1123Subdomain(s.StorageClassName))
	}
	return f.list
}

func validatePersistentVolumeUpdate(new, old *corev1.PersistentVolume) field.ErrorList {
	f := &faults{}
	if !equality.Semantic.DeepEqual(new.Spec.PersistentVolumeSource, old.Spec.PersistentVolumeSource) {
		f.forbidden(field.NewPath("spec", "persistentvolumesource"), "spec.persistentvolumesource is immutable after creation\n"+
			diff.Diff(old.Spec.PersistentVolumeSource, new.Spec.PersistentVolumeSource))
	}
	f.immutable(field.NewPath("spec", "volumeMode"), new.Spec.VolumeMode, old.Spec.VolumeMode)
	return f.list
}

func validateClaim(c *corev1.PersistentVolumeClaim) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &c.Spec
	validateModes(f, p.Child("accessModes"), s.AccessModes)
	if s.Selector != nil {
		validateSelector(f, p.Child("selector"), s.Selector)
	}
	at := p.Child("resources").Key(string(corev1.ResourceStorage))
	if q, ok := s.Resources.Requests[corev1.ResourceStorage]; !ok {
		f.required(at, "")
	} else if q.Sign() <= 0 {
		f.invalid(at, q.String(), "must be greater than zero")
	}
	if n := s.StorageClassName; n != nil && *n != "" {
		f.each(p.Child("storageClassName"), *n, validation.IsDNS1123Subdomain(*n))
	}
	if m := s.VolumeMode; m != nil {
		supported(f, p.Child("volumeMode"), *m, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
	}
	return f.list
}

// validateClaimUpdate: a claim may be bound, grow, and change its class of attributes; while unbound it may get a class.
func validateClaimUpdate(new, old *corev1.PersistentVolumeClaim) field.ErrorList {
	f := &faults{}
	rest, o := new.Spec.DeepCopy(), &old.Spec
	if o.VolumeName == "" {
		rest.VolumeName = ""
	}
	if o.StorageClassName == nil {
		rest.StorageClassName = nil
	}
	if old.Status.Phase == corev1.ClaimBound {
		rest.Resources.Requests, rest.VolumeAttributesClassName = o.Resources.Requests, o.VolumeAttributesClassName
	}
	if !equality.Semantic.DeepEqual(rest, o) {
		f.forbidden(field.NewPath("spec"), "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"+
			diff.Diff(*o, *rest))
	}
	want, had := new.Spec.Resources.Requests[corev1.ResourceStorage], o.Resources.Requests[corev1.ResourceStorage]
	have := old.Status.Capacity[corev1.ResourceStorage]
	if want.Cmp(had) < 0 && want.Cmp(have) <= 0 && old.Status.Phase == corev1.ClaimBound {
		f.forbidden(field.NewPath("spec", "resources", "requests", "storage"), "field can not be less than status.capacity")
	}
	return f.list
}
