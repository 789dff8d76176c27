// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

func TestAClaimIsBoundAndLetGo(t *testing.T) {
	p := start(t)
	ctx := t.Context()
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	volumes, claims := client.For[corev1.PersistentVolume](p.Admin, "test"), client.For[corev1.PersistentVolumeClaim](p.Admin, "test")
	must[*corev1.PersistentVolume](t)(volumes.Create(ctx, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "disk"}, Spec: corev1.PersistentVolumeSpec{
		Capacity: size, AccessModes: modes, PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/tmp/disk"}}}}))
	phase := func(want corev1.PersistentVolumePhase) func(*cache.Snapshot) bool {
		return func(s *cache.Snapshot) bool {
			v, ok := cache.Get[corev1.PersistentVolume](s, "", "disk")
			return ok && v.Status.Phase == want
		}
	}
	p.until("the volume is available", phase(corev1.VolumeAvailable))
	must[*corev1.PersistentVolumeClaim](t)(claims.Create(ctx, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{AccessModes: modes, Resources: corev1.VolumeResourceRequirements{Requests: size}}}))
	p.until("both are bound", func(s *cache.Snapshot) bool {
		c, ok := cache.Get[corev1.PersistentVolumeClaim](s, "default", "data")
		return ok && c.Status.Phase == corev1.ClaimBound && phase(corev1.VolumeBound)(s)
	})
	if err := claims.Delete(ctx, "default", "data", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	p.until("the claim is gone", func(s *cache.Snapshot) bool {
		_, ok := cache.Get[corev1.PersistentVolumeClaim](s, "default", "data")
		return !ok && phase(corev1.VolumeReleased)(s)
	})
	if err := volumes.Delete(ctx, "", "disk", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	p.until("the volume is gone", func(s *cache.Snapshot) bool {
		_, ok := cache.Get[corev1.PersistentVolume](s, "", "disk")
		return !ok
	})
}
