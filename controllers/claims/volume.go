// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// VolumeState is all that DecideVolume looks at.
type VolumeState struct {
	Volume *corev1.PersistentVolume
	Claim  *corev1.PersistentVolumeClaim // the one it names, if it is there
	Now    time.Time
}

// Volumes says in the status of each volume what has become of it.
func Volumes() reconcile.Controller {
	return reconcile.Define("pv-protection-controller", []reconcile.Watch{
		reconcile.Objects[corev1.PersistentVolume](),
		reconcile.Mapped(func(s *cache.Snapshot, c *corev1.PersistentVolumeClaim) []reconcile.Key {
			var keys []reconcile.Key
			for v := range cache.List[corev1.PersistentVolume](s, "") {
				if r := v.Spec.ClaimRef; r != nil && r.Namespace == c.Namespace && r.Name == c.Name {
					keys = append(keys, reconcile.Key{Name: v.Name})
				}
			}
			return keys
		}),
	}, ObserveVolume, DecideVolume)
}

// ObserveVolume gathers one volume and its claim.
func ObserveVolume(s *cache.Snapshot, k reconcile.Key, now time.Time) (VolumeState, bool) {
	v, ok := cache.Get[corev1.PersistentVolume](s, "", k.Name)
	if !ok {
		return VolumeState{}, false
	}
	st := VolumeState{Volume: v, Now: now}
	if r := v.Spec.ClaimRef; r != nil {
		if c, ok := cache.Get[corev1.PersistentVolumeClaim](s, r.Namespace, r.Name); ok && (r.UID == "" || r.UID == c.UID) {
			st.Claim = c
		}
	}
	return st, true
}

// DecideVolume: Available without a claim, Bound with one that has it, Released when that is gone.
func DecideVolume(s VolumeState) reconcile.Plan {
	v := s.Volume
	phase, message := corev1.VolumeAvailable, ""
	switch r := v.Spec.ClaimRef; {
	case r != nil && r.UID != "" && s.Claim == nil:
		phase = corev1.VolumeReleased
		if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
			phase, message = corev1.VolumeFailed, "what is behind this volume must be deleted by hand: nothing here can"
		}
	case s.Claim != nil && s.Claim.Spec.VolumeName == v.Name:
		phase = corev1.VolumeBound
	}
	if v.DeletionTimestamp != nil {
		if phase == corev1.VolumeBound || !slices.Contains(v.Finalizers, protectVolume) {
			return reconcile.Plan{}
		}
		n := v.DeepCopy()
		n.Finalizers = without(n.Finalizers, protectVolume)
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Update{Object: n}}, Why: "it is deleted, and no claim has it"}
	}
	if v.Status.Phase == phase && v.Status.Message == message {
		return reconcile.Plan{}
	}
	n := v.DeepCopy()
	if n.Status.Phase != phase {
		t := metav1.NewTime(s.Now).Rfc3339Copy()
		n.Status.LastPhaseTransitionTime = &t
	}
	n.Status.Phase, n.Status.Message = phase, message
	return reconcile.Plan{Status: n, Why: "it is " + string(phase)}
}
