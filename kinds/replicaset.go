// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ReplicaSet is apps/v1 ReplicaSet.
var ReplicaSet = Kind[appsv1.ReplicaSet]{
	Group: "apps", Version: "v1", Name: "ReplicaSet", Plural: "replicasets", Short: []string{"rs"}, Categories: []string{"all"},
	Served:    replicaSetVersions,
	HasStatus: true,
	Default: func(r *appsv1.ReplicaSet) {
		orSet(&r.Spec.Replicas, 1)
		defaultPodSpec(&r.Spec.Template.Spec)
	},
	Validate: func(r *appsv1.ReplicaSet) field.ErrorList {
		f := &faults{}
		p := field.NewPath("spec")
		f.nonNegative(p.Child("replicas"), int64(replicas(r.Spec.Replicas)))
		f.nonNegative(p.Child("minReadySeconds"), int64(r.Spec.MinReadySeconds))
		validateOwnSelector(f, p, "replicaset", r.Spec.Selector, &r.Spec.Template)
		return f.list
	},
	ValidateUpdate: func(new, old *appsv1.ReplicaSet) field.ErrorList {
		f := &faults{}
		f.immutable(field.NewPath("spec", "selector"), new.Spec.Selector, old.Spec.Selector)
		return f.list
	},
	ValidateStatus: func(new, _ *appsv1.ReplicaSet) field.ErrorList {
		f := &faults{}
		p, s := field.NewPath("status"), &new.Status
		f.nonNegative(p.Child("observedGeneration"), s.ObservedGeneration)
		validateCounts(f, p, count{"replicas", s.Replicas}, count{"fullyLabeledReplicas", s.FullyLabeledReplicas},
			count{"readyReplicas", s.ReadyReplicas}, count{"availableReplicas", s.AvailableReplicas})
		if s.AvailableReplicas > s.ReadyReplicas {
			f.invalid(p.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas")
		}
		return f.list
	},
	Columns: append([]Column[appsv1.ReplicaSet]{
		nameColumn[appsv1.ReplicaSet](),
		number("Desired", "Pods wanted.", func(r *appsv1.ReplicaSet) int64 { return int64(replicas(r.Spec.Replicas)) }),
		number("Current", "Pods there are.", func(r *appsv1.ReplicaSet) int64 { return int64(r.Status.Replicas) }),
		number("Ready", "Pods that are ready.", func(r *appsv1.ReplicaSet) int64 { return int64(r.Status.ReadyReplicas) }),
		ageColumn[appsv1.ReplicaSet](),
	}, templateColumns(func(r *appsv1.ReplicaSet) (*corev1.PodSpec, *metav1.LabelSelector) {
		return &r.Spec.Template.Spec, r.Spec.Selector
	})...),
	Fields: func(r *appsv1.ReplicaSet) fields.Set {
		return fields.Set{"status.replicas": strconv.Itoa(int(r.Status.Replicas))}
	},
	Scale: &Scale[appsv1.ReplicaSet]{
		Get: func(r *appsv1.ReplicaSet) (int32, int32, string) {
			return replicas(r.Spec.Replicas), r.Status.Replicas, selectorText(r.Spec.Selector)
		},
		Set: func(r *appsv1.ReplicaSet, n int32) { r.Spec.Replicas = &n },
	},
}
