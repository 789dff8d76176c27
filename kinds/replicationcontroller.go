// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"maps"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ReplicationController is core/v1 ReplicationController, what ReplicaSets were before they had selectors of sets.
var ReplicationController = Kind[corev1.ReplicationController]{
	Version: "v1", Name: "ReplicationController", Plural: "replicationcontrollers", Short: []string{"rc"}, Categories: []string{"all"},
	Storage:        "controllers",
	HasStatus:      true,
	Default:        defaultReplicationController,
	Validate:       validateReplicationController,
	ValidateStatus: validateReplicationControllerStatus,
	Columns: append([]Column[corev1.ReplicationController]{
		nameColumn[corev1.ReplicationController](),
		number("Desired", "Pods wanted.", func(r *corev1.ReplicationController) int64 { return int64(replicas(r.Spec.Replicas)) }),
		number("Current", "Pods there are.", func(r *corev1.ReplicationController) int64 { return int64(r.Status.Replicas) }),
		number("Ready", "Pods that are ready.", func(r *corev1.ReplicationController) int64 { return int64(r.Status.ReadyReplicas) }),
		ageColumn[corev1.ReplicationController](),
	}, templateColumns(func(r *corev1.ReplicationController) (*corev1.PodSpec, *metav1.LabelSelector) {
		if r.Spec.Template == nil {
			return &corev1.PodSpec{}, &metav1.LabelSelector{MatchLabels: r.Spec.Selector}
		}
		return &r.Spec.Template.Spec, &metav1.LabelSelector{MatchLabels: r.Spec.Selector}
	})...),
	Fields: func(r *corev1.ReplicationController) fields.Set {
		return fields.Set{"status.replicas": strconv.Itoa(int(r.Status.Replicas))}
	},
	Scale: &Scale[corev1.ReplicationController]{
		Get: func(r *corev1.ReplicationController) (int32, int32, string) {
			return replicas(r.Spec.Replicas), r.Status.Replicas, labels.SelectorFromSet(r.Spec.Selector).String()
		},
		Set: func(r *corev1.ReplicationController, n int32) { r.Spec.Replicas = &n },
	},
}

// defaultReplicationController: the selector and the labels are the template's where they are left out.
func defaultReplicationController(r *corev1.ReplicationController) {
	orSet(&r.Spec.Replicas, 1)
	if r.Spec.Template == nil {
		return
	}
	if own := r.Spec.Template.Labels; own != nil {
		if len(r.Spec.Selector) == 0 {
			r.Spec.Selector = maps.Clone(own)
		}
		if len(r.Labels) == 0 {
			r.Labels = maps.Clone(own)
		}
	}
	defaultPodSpec(&r.Spec.Template.Spec)
}

func validateReplicationController(r *corev1.ReplicationController) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &r.Spec
	f.nonNegative(p.Child("minReadySeconds"), int64(s.MinReadySeconds))
	if len(s.Selector) == 0 {
		f.required(p.Child("selector"), "")
	}
	f.nonNegative(p.Child("replicas"), int64(replicas(s.Replicas)))
	at := p.Child("template")
	if s.Template == nil {
		f.required(at, "")
		return f.list
	}
	if len(s.Selector) > 0 && !labels.SelectorFromSet(s.Selector).Matches(labels.Set(s.Template.Labels)) {
		f.invalid(at.Child("metadata", "labels"), s.Template.Labels, "`selector` does not match template `labels`")
	}
	validateTemplate(f, at, s.Template)
	validateAlways(f, at, &s.Template.Spec, "ReplicationController")
	return f.list
}

// validateAlways: pods that are kept in number start again themselves, and never end by a deadline.
func validateAlways(f *faults, template *field.Path, s *corev1.PodSpec, kind string) {
	if s.RestartPolicy != corev1.RestartPolicyAlways {
		f.add(field.NotSupported(template.Child("spec", "restartPolicy"), s.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if s.ActiveDeadlineSeconds != nil {
		f.forbidden(template.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in "+kind+" is not Supported")
	}
}

func validateReplicationControllerStatus(new, _ *corev1.ReplicationController) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("status"), &new.Status
	f.nonNegative(p.Child("observedGeneration"), s.ObservedGeneration)
	validateCounts(f, p, count{"replicas", s.Replicas}, count{"fullyLabeledReplicas", s.FullyLabeledReplicas},
		count{"readyReplicas", s.ReadyReplicas}, count{"availableReplicas", s.AvailableReplicas})
	if s.AvailableReplicas > s.ReadyReplicas {
		f.invalid(p.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas")
	}
	return f.list
}
