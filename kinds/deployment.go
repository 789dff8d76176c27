// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Deployment is apps/v1 Deployment.
var Deployment = Kind[appsv1.Deployment]{
	Group: "apps", Version: "v1", Name: "Deployment", Plural: "deployments", Short: []string{"deploy"}, Categories: []string{"all"},
	Served:         deploymentVersions,
	HasStatus:      true,
	Default:        defaultDeployment,
	Validate:       validateDeployment,
	ValidateUpdate: validateDeploymentUpdate,
	ValidateStatus: validateDeploymentStatus,
	Columns:        deploymentColumns,
	// Annotations count: `kubectl rollout undo` restores them with the template, and observers wait for the generation.
	SameSpec: func(a, b *appsv1.Deployment) bool {
		return equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(a.Annotations, b.Annotations)
	},
	Scale: &Scale[appsv1.Deployment]{
		Get: func(d *appsv1.Deployment) (int32, int32, string) {
			return replicas(d.Spec.Replicas), d.Status.Replicas, selectorText(d.Spec.Selector)
		},
		Set: func(d *appsv1.Deployment, n int32) { d.Spec.Replicas = &n },
	},
}

// replicas reads a count that defaults to one.
func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// selectorText is the selector as the scale subresource's status carries it; empty when it cannot be read.
func selectorText(s *metav1.LabelSelector) string {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return ""
	}
	return selector.String()
}

func defaultDeployment(d *appsv1.Deployment) {
	s := &d.Spec
	orSet(&s.Replicas, 1)
	or(&s.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if s.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		orSet(&s.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		orSet(&s.Strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		orSet(&s.Strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	orSet(&s.RevisionHistoryLimit, 10)
	orSet(&s.ProgressDeadlineSeconds, 600)
	defaultPodSpec(&s.Template.Spec)
}

func validateDeployment(d *appsv1.Deployment) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &d.Spec
	f.nonNegative(p.Child("replicas"), int64(replicas(s.Replicas)))
	validateOwnSelector(f, p, "deployment", s.Selector, &s.Template)
	validateStrategy(f, p.Child("strategy"), &s.Strategy)
	f.nonNegative(p.Child("minReadySeconds"), int64(s.MinReadySeconds))
	if n := s.RevisionHistoryLimit; n != nil {
		f.nonNegative(p.Child("revisionHistoryLimit"), int64(*n))
	}
	if n := s.ProgressDeadlineSeconds; n != nil {
		f.nonNegative(p.Child("progressDeadlineSeconds"), int64(*n))
		if *n <= s.MinReadySeconds {
			f.invalid(p.Child("progressDeadlineSeconds"), *n, "must be greater than minReadySeconds")
		}
	}
	return f.list
}

// validateOwnSelector checks a workload's selector and template together: what it makes, it must find again.
func validateOwnSelector(f *faults, p *field.Path, kind string, selector *metav1.LabelSelector, t *corev1.PodTemplateSpec) {
	at, template := p.Child("selector"), p.Child("template")
	if selector == nil {
		f.required(at, "")
	} else {
		validateSelector(f, at, selector)
		if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
			f.invalid(at, selector, fmt.Sprintf("empty selector is invalid for %s", kind))
		}
	}
	s, err := metav1.LabelSelectorAsSelector(selector)
	switch {
	case err != nil:
		f.invalid(at, selector, "invalid label selector")
	case selector != nil && !s.Empty() && !s.Matches(labels.Set(t.Labels)):
		f.invalid(template.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`")
	}
	validateTemplate(f, template, t)
	owner := map[string]string{"statefulset": "StatefulSet", "daemonset": "DaemonSet"}[kind]
	or(&owner, "ReplicaSet") // a Deployment's pods have one
	validateAlways(f, template, &t.Spec, owner)
}

func validateStrategy(f *faults, p *field.Path, s *appsv1.DeploymentStrategy) {
	at := p.Child("rollingUpdate")
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			f.forbidden(at, "may not be specified when strategy `type` is 'Recreate'")
		}
	case appsv1.RollingUpdateDeploymentStrategyType:
		if s.RollingUpdate == nil {
			f.required(at, "this should be defaulted and never be nil")
			return
		}
		validateRolling(f, at, s.RollingUpdate)
	default:
		f.add(field.NotSupported(p, s, []string{string(appsv1.RecreateDeploymentStrategyType), string(appsv1.RollingUpdateDeploymentStrategyType)}))
	}
}

func validateRolling(f *faults, p *field.Path, r *appsv1.RollingUpdateDeployment) {
	surge, down := intstr.IntOrString{}, intstr.IntOrString{}
	if r.MaxSurge != nil {
		surge = *r.MaxSurge
	}
	if r.MaxUnavailable != nil {
		down = *r.MaxUnavailable
	}
	validateShare(f, p.Child("maxUnavailable"), down)
	validateShare(f, p.Child("maxSurge"), surge)
	if share(down) == 0 && share(surge) == 0 {
		f.invalid(p.Child("maxUnavailable"), down.String(), "may not be 0 when `maxSurge` is 0")
	}
	if down.Type == intstr.String && share(down) > 100 {
		f.invalid(p.Child("maxUnavailable"), down.String(), "must not be greater than 100%")
	}
}

// validateShare: a count or a percentage.
func validateShare(f *faults, p *field.Path, v intstr.IntOrString) {
	switch v.Type {
	case intstr.String:
		f.each(p, v.String(), validation.IsValidPercent(v.StrVal))
	case intstr.Int:
		f.nonNegative(p, int64(v.IntValue()))
	default:
		f.invalid(p, v.String(), "must be an integer or percentage (e.g '5%%')")
	}
}

// share is the number in front of the percent sign, or the count.
func share(v intstr.IntOrString) int {
	n, err := intstr.GetScaledValueFromIntOrPercent(&v, 100, false)
	if err != nil {
		return -1
	}
	return n
}

func validateDeploymentUpdate(new, old *appsv1.Deployment) field.ErrorList {
	f := &faults{}
	f.immutable(field.NewPath("spec", "selector"), new.Spec.Selector, old.Spec.Selector)
	return f.list
}

func validateDeploymentStatus(new, _ *appsv1.Deployment) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("status"), &new.Status
	f.nonNegative(p.Child("observedGeneration"), s.ObservedGeneration)
	validateCounts(f, p, count{"replicas", s.Replicas}, count{"updatedReplicas", s.UpdatedReplicas},
		count{"readyReplicas", s.ReadyReplicas}, count{"availableReplicas", s.AvailableReplicas})
	f.nonNegative(p.Child("unavailableReplicas"), int64(s.UnavailableReplicas))
	if s.AvailableReplicas > s.ReadyReplicas {
		f.invalid(p.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas")
	}
	return f.list
}

type count struct {
	name string
	n    int32
}

// validateCounts: no part is greater than the whole, or negative.
func validateCounts(f *faults, p *field.Path, whole count, parts ...count) {
	f.nonNegative(p.Child(whole.name), int64(whole.n))
	for _, c := range parts {
		f.nonNegative(p.Child(c.name), int64(c.n))
		if c.n > whole.n {
			f.invalid(p.Child(c.name), c.n, "cannot be greater than status.replicas")
		}
	}
}

var deploymentColumns = append([]Column[appsv1.Deployment]{
	nameColumn[appsv1.Deployment](),
	text("Ready", "Ready pods, of those wanted.", 0, func(d *appsv1.Deployment) string {
		return fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, replicas(d.Spec.Replicas))
	}),
	number("Up-to-date", "Pods made from the newest template.", func(d *appsv1.Deployment) int64 { return int64(d.Status.UpdatedReplicas) }),
	number("Available", "Pods ready for at least minReadySeconds.", func(d *appsv1.Deployment) int64 { return int64(d.Status.AvailableReplicas) }),
	ageColumn[appsv1.Deployment](),
}, templateColumns(func(d *appsv1.Deployment) (*corev1.PodSpec, *metav1.LabelSelector) {
	return &d.Spec.Template.Spec, d.Spec.Selector
})...)
