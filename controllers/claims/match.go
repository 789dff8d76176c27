// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// classOf is the class by the annotation that came before the field, or by the field.
func classOf(annotations map[string]string, field string) string {
	if c, ok := annotations[corev1.BetaStorageClassAnnotation]; ok {
		return c
	}
	return field
}

// find is the volume of a claim: the one it names, if that is free or its own; the one that names it; or the smallest of
// those that fit. Nil: there is none, or it is too early.
func find(s *State) *corev1.PersistentVolume {
	c := s.Claim
	var best *corev1.PersistentVolume
	for _, v := range s.Volumes {
		r := v.Spec.ClaimRef
		mine := r != nil && r.Namespace == c.Namespace && r.Name == c.Name && (r.UID == "" || r.UID == c.UID)
		switch {
		case mine && (c.Spec.VolumeName == "" || c.Spec.VolumeName == v.Name):
			return v
		case r != nil || v.DeletionTimestamp != nil:
		case c.Spec.VolumeName == v.Name && c.Annotations[bindCompleted] == "":
			return v
		case c.Spec.VolumeName == "" && fits(c, v) && (best == nil || smaller(v, best)):
			best = v
		}
	}
	if s.Late && !s.Used {
		return nil
	}
	return best
}

func smaller(a, b *corev1.PersistentVolume) bool {
	x, y := a.Spec.Capacity[corev1.ResourceStorage], b.Spec.Capacity[corev1.ResourceStorage]
	return x.Cmp(y) < 0
}

// fits: class, mode, access, size and labels are what the claim asks for.
func fits(c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) bool {
	if classOf(c.Annotations, deref(c.Spec.StorageClassName)) != classOf(v.Annotations, v.Spec.StorageClassName) {
		return false
	}
	mode := func(m *corev1.PersistentVolumeMode) corev1.PersistentVolumeMode {
		if m == nil {
			return corev1.PersistentVolumeFilesystem
		}
		return *m
	}
	if mode(c.Spec.VolumeMode) != mode(v.Spec.VolumeMode) || deref(c.Spec.VolumeAttributesClassName) != deref(v.Spec.VolumeAttributesClassName) {
		return false
	}
	for _, m := range c.Spec.AccessModes {
		if !slices.Contains(v.Spec.AccessModes, m) {
			return false
		}
	}
	has, wants := v.Spec.Capacity[corev1.ResourceStorage], c.Spec.Resources.Requests[corev1.ResourceStorage]
	if has.Cmp(wants) < 0 {
		return false
	}
	if c.Spec.Selector == nil {
		return true
	}
	sel, err := metav1.LabelSelectorAsSelector(c.Spec.Selector)
	return err == nil && sel.Matches(labels.Set(v.Labels))
}
