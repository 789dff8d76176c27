// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/knarr/knarr/state/cache"
)

// The annotation by which a class says that it is the default, and the one claims had before there was a field.
const (
	defaultClass     = "storageclass.kubernetes.io/is-default-class"
	betaDefaultClass = "storageclass.beta.kubernetes.io/is-default-class"
	protectPVC       = "kubernetes.io/pvc-protection"
	protectPV        = "kubernetes.io/pv-protection"
)

// defaultStorageClass gives a claim that names no class the cluster's default one; of several, the newest.
func defaultStorageClass(state cache.Reader) Step {
	return Step{Name: "DefaultStorageClass", Mutate: func(_ context.Context, r *Request) error {
		pvc, ok := r.Object.(*corev1.PersistentVolumeClaim)
		if !ok || r.Verb != Create || r.Subresource != "" {
			return nil
		}
		if _, old := pvc.Annotations[corev1.BetaStorageClassAnnotation]; old || pvc.Spec.StorageClassName != nil {
			return nil
		}
		if class := pickClass(state.Snapshot()); class != nil {
			name := class.Name
			pvc.Spec.StorageClassName = &name
		}
		return nil
	}}
}

func pickClass(s *cache.Snapshot) *storagev1.StorageClass {
	var best *storagev1.StorageClass
	for c := range cache.List[storagev1.StorageClass](s, "") {
		if c.Annotations[defaultClass] != "true" && c.Annotations[betaDefaultClass] != "true" {
			continue
		}
		if best == nil || c.CreationTimestamp.After(best.CreationTimestamp.Time) ||
			c.CreationTimestamp.Equal(&best.CreationTimestamp) && c.Name < best.Name {
			best = c
		}
	}
	return best
}

// storageInUse holds every claim and volume by a finalizer, so that none goes while a pod or a claim uses it.
func storageInUse() Step {
	return Step{Name: "StorageObjectInUseProtection", Mutate: func(_ context.Context, r *Request) error {
		if r.Verb != Create || r.Subresource != "" {
			return nil
		}
		finalizer := ""
		switch r.Object.(type) {
		case *corev1.PersistentVolumeClaim:
			finalizer = protectPVC
		case *corev1.PersistentVolume:
			finalizer = protectPV
		default:
			return nil
		}
		if have := r.Object.GetFinalizers(); !slices.Contains(have, finalizer) {
			r.Object.SetFinalizers(append(slices.Clone(have), finalizer))
		}
		return nil
	}}
}
