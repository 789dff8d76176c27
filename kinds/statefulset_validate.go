// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateStatefulSet(o *appsv1.StatefulSet) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &o.Spec
	switch s.PodManagementPolicy {
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
	case "":
		f.required(p.Child("podManagementPolicy"), "")
	default:
		f.invalid(p.Child("podManagementPolicy"), s.PodManagementPolicy, "must be 'OrderedReady' or 'Parallel'")
	}
	at := p.Child("updateStrategy")
	switch u := s.UpdateStrategy; u.Type {
	case appsv1.OnDeleteStatefulSetStrategyType:
		if u.RollingUpdate != nil {
			f.invalid(at.Child("rollingUpdate"), u.RollingUpdate, "only allowed for updateStrategy 'RollingUpdate'")
		}
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if r := u.RollingUpdate; r != nil {
			f.nonNegative(at.Child("rollingUpdate", "partition"), int64(either(r.Partition, 0)))
			if r.MaxUnavailable != nil {
				validateShare(f, at.Child("rollingUpdate", "maxUnavailable"), *r.MaxUnavailable)
				if share(*r.MaxUnavailable) == 0 {
					f.invalid(at.Child("rollingUpdate", "maxUnavailable"), r.MaxUnavailable.String(), "cannot be 0")
				}
			}
		}
	default:
		f.invalid(at, u, "must be 'RollingUpdate' or 'OnDelete'")
	}
	if r := s.PersistentVolumeClaimRetentionPolicy; r != nil {
		for _, c := range []struct {
			name string
			v    appsv1.PersistentVolumeClaimRetentionPolicyType
		}{{"whenDeleted", r.WhenDeleted}, {"whenScaled", r.WhenScaled}} {
			supported(f, p.Child("persistentVolumeClaimRetentionPolicy", c.name), c.v,
				appsv1.DeletePersistentVolumeClaimRetentionPolicyType, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
		}
	}
	f.nonNegative(p.Child("replicas"), int64(replicas(s.Replicas)))
	f.nonNegative(p.Child("minReadySeconds"), int64(s.MinReadySeconds))
	if s.Ordinals != nil {
		f.nonNegative(p.Child("ordinals.start"), int64(s.Ordinals.Start))
	}
	validateOwnSelector(f, p, "statefulset", s.Selector, withClaims(s))
	return f.list
}

// withClaims is the template with the volumes that the set's claims become in each pod.
func withClaims(s *appsv1.StatefulSetSpec) *corev1.PodTemplateSpec {
	t := s.Template
	has := map[string]bool{}
	for i := range t.Spec.Volumes {
		has[t.Spec.Volumes[i].Name] = true
	}
	t.Spec.Volumes = slices.Clone(t.Spec.Volumes)
	for i := range s.VolumeClaimTemplates {
		name := s.VolumeClaimTemplates[i].Name
		if name == "" || has[name] {
			continue
		}
		t.Spec.Volumes = append(t.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
		}})
	}
	return &t
}

func validateStatefulSetUpdate(new, old *appsv1.StatefulSet) field.ErrorList {
	f := &faults{}
	rest := new.Spec.DeepCopy()
	o := &old.Spec
	rest.Replicas, rest.Template, rest.UpdateStrategy, rest.MinReadySeconds = o.Replicas, o.Template, o.UpdateStrategy, o.MinReadySeconds
	rest.Ordinals, rest.RevisionHistoryLimit = o.Ordinals, o.RevisionHistoryLimit
	rest.PersistentVolumeClaimRetentionPolicy = o.PersistentVolumeClaimRetentionPolicy
	if !equality.Semantic.DeepEqual(rest, o) {
		f.forbidden(field.NewPath("spec"), "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "+
			"'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden")
	}
	return f.list
}

func validateDaemonSet(o *appsv1.DaemonSet) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &o.Spec
	validateOwnSelector(f, p, "daemonset", s.Selector, &s.Template)
	f.nonNegative(p.Child("minReadySeconds"), int64(s.MinReadySeconds))
	if n := s.RevisionHistoryLimit; n != nil {
		f.nonNegative(p.Child("revisionHistoryLimit"), int64(*n))
	}
	at := p.Child("updateStrategy")
	switch u := s.UpdateStrategy; u.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
	case appsv1.RollingUpdateDaemonSetStrategyType:
		if u.RollingUpdate == nil {
			f.required(at.Child("rollingUpdate"), "")
			break
		}
		validateDaemonRolling(f, at.Child("rollingUpdate"), u.RollingUpdate)
	default:
		f.add(field.NotSupported(at, u, []string{string(appsv1.RollingUpdateDaemonSetStrategyType), string(appsv1.OnDeleteDaemonSetStrategyType)}))
	}
	return f.list
}

func validateDaemonRolling(f *faults, p *field.Path, r *appsv1.RollingUpdateDaemonSet) {
	down, surge := 0, 0
	if r.MaxUnavailable != nil {
		validateShare(f, p.Child("maxUnavailable"), *r.MaxUnavailable)
		down = share(*r.MaxUnavailable)
	}
	if r.MaxSurge != nil {
		validateShare(f, p.Child("maxSurge"), *r.MaxSurge)
		surge = share(*r.MaxSurge)
	}
	switch {
	case down != 0 && surge != 0:
		f.invalid(p.Child("maxSurge"), r.MaxSurge, "may not be set when maxUnavailable is non-zero")
	case down == 0 && surge == 0:
		f.required(p.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0")
	}
}
