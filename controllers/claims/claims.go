// SPDX-License-Identifier: Apache-2.0

// Package claims binds PersistentVolumeClaims to PersistentVolumes that are there, and lets go of what is deleted.
//
// A claim gets the smallest volume that fits (match.go), or the one that it or the volume names. Binding is written in both objects, the volume
// first: a crash between leaves a volume that knows its claim, which the next pass takes up. A volume whose claim is gone is
// Released and stays, whatever its reclaim policy: nothing here can delete what is behind it, and the status says so. The finalizers that
// keep claims of running pods and volumes of claims are taken off when nobody uses them. Volumes are not made on
// demand. It keeps no state; Decide is pure.
package claims

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// The annotations and finalizers that tools read.
const (
	bindCompleted = "pv.kubernetes.io/bind-completed"
	byController  = "pv.kubernetes.io/bound-by-controller"
	protectClaim  = "kubernetes.io/pvc-protection"
	protectVolume = "kubernetes.io/pv-protection"
)

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Claim   *corev1.PersistentVolumeClaim
	Volumes []*corev1.PersistentVolume // by name
	Late    bool                       // its class says: not before a pod wants it
	Used    bool                       // a pod that has not ended names it
	Held    bool                       // one that has a node does
	Now     time.Time
}

// Controller binds claims.
func Controller() reconcile.Controller {
	return reconcile.Define("persistentvolume-controller", []reconcile.Watch{
		reconcile.Objects[corev1.PersistentVolumeClaim](),
		reconcile.Mapped(named),
		reconcile.Mapped(concerned),
	}, Observe, Decide)
}

// named are the claims of a pod.
func named(_ *cache.Snapshot, p *corev1.Pod) []reconcile.Key {
	var keys []reconcile.Key
	for i := range p.Spec.Volumes {
		if c := claimOf(p, &p.Spec.Volumes[i]); c != "" {
			keys = append(keys, reconcile.Key{Namespace: p.Namespace, Name: c})
		}
	}
	return keys
}

func claimOf(p *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return p.Name + "-" + v.Name
	}
	return ""
}

// concerned: a volume matters to its claim, and one without to all claims without a volume.
func concerned(s *cache.Snapshot, v *corev1.PersistentVolume) []reconcile.Key {
	if r := v.Spec.ClaimRef; r != nil {
		return []reconcile.Key{{Namespace: r.Namespace, Name: r.Name}}
	}
	var keys []reconcile.Key
	for c := range cache.List[corev1.PersistentVolumeClaim](s, "") {
		if c.Spec.VolumeName == "" || c.Spec.VolumeName == v.Name {
			keys = append(keys, reconcile.Key{Namespace: c.Namespace, Name: c.Name})
		}
	}
	return keys
}

// Observe gathers one claim and the volumes.
func Observe(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
	c, ok := cache.Get[corev1.PersistentVolumeClaim](s, k.Namespace, k.Name)
	if !ok {
		return State{}, false
	}
	st := State{Claim: c, Now: now}
	for v := range cache.List[corev1.PersistentVolume](s, "") {
		st.Volumes = append(st.Volumes, v)
	}
	if class, ok := cache.Get[storagev1.StorageClass](s, "", classOf(c.Annotations, deref(c.Spec.StorageClassName))); ok && class.VolumeBindingMode != nil {
		st.Late = *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
	}
	for p := range cache.List[corev1.Pod](s, c.Namespace) {
		if !pods.Ended(p) && slices.ContainsFunc(named(s, p), func(x reconcile.Key) bool { return x.Name == c.Name }) {
			st.Used = true
			st.Held = st.Held || p.Spec.NodeName != ""
		}
	}
	return st, true
}

// Decide says what to do next for one claim.
func Decide(s State) reconcile.Plan {
	c := s.Claim
	if c.DeletionTimestamp != nil {
		if s.Held || !slices.Contains(c.Finalizers, protectClaim) {
			return reconcile.Plan{}
		}
		n := c.DeepCopy()
		n.Finalizers = without(n.Finalizers, protectClaim)
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Update{Object: n}}, Why: "it is deleted, and no pod on a node uses it"}
	}
	v := find(&s)
	switch {
	case v != nil:
		return bind(&s, v)
	case c.Annotations[bindCompleted] != "":
		return lost(c)
	case c.Spec.VolumeName != "":
		return reconcile.Plan{}
	case s.Late && !s.Used:
		return tell(c, "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
	}
	return tell(c, "FailedBinding", "no persistent volumes available for this claim and no storage class is set")
}

func tell(c *corev1.PersistentVolumeClaim, reason, message string) reconcile.Plan {
	return reconcile.Plan{Actions: []reconcile.Action{reconcile.Event{Regarding: c, Type: corev1.EventTypeNormal, Reason: reason, Message: message}}}
}

func lost(c *corev1.PersistentVolumeClaim) reconcile.Plan {
	if c.Status.Phase == corev1.ClaimLost {
		return reconcile.Plan{}
	}
	n := c.DeepCopy()
	n.Status.Phase = corev1.ClaimLost
	return reconcile.Plan{Status: n, Why: "its volume is gone", Actions: []reconcile.Action{reconcile.Event{Regarding: c, Type: corev1.EventTypeWarning,
		Reason: "ClaimLost", Message: "Bound claim has lost its PersistentVolume. Data on the volume is lost!"}}}
}

// bind writes the volume, the claim, and the claim's status, each in a pass of its own.
func bind(s *State, v *corev1.PersistentVolume) reconcile.Plan {
	c := s.Claim
	if r := v.Spec.ClaimRef; r == nil || r.UID != c.UID {
		n := v.DeepCopy()
		if r == nil {
			annotate(&n.Annotations, byController)
		}
		n.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: c.Namespace, Name: c.Name, UID: c.UID, ResourceVersion: c.ResourceVersion}
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Update{Object: n}}, Why: "the claim gets the volume " + v.Name}
	}
	if c.Spec.VolumeName != v.Name || c.Annotations[bindCompleted] == "" {
		n := c.DeepCopy()
		if n.Spec.VolumeName == "" {
			annotate(&n.Annotations, byController)
		}
		annotate(&n.Annotations, bindCompleted)
		n.Spec.VolumeName = v.Name
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Update{Object: n}}, Why: "the claim gets the volume " + v.Name}
	}
	n := c.DeepCopy()
	n.Status.Phase = corev1.ClaimBound
	n.Status.AccessModes = v.Spec.AccessModes
	n.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: v.Spec.Capacity[corev1.ResourceStorage]}
	if equality.Semantic.DeepEqual(n.Status, c.Status) {
		return reconcile.Plan{}
	}
	return reconcile.Plan{Status: n, Why: "it is bound"}
}

func annotate(to *map[string]string, key string) {
	if *to == nil {
		*to = map[string]string{}
	}
	(*to)[key] = "yes"
}

func without(list []string, x string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(y string) bool { return y == x })
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
