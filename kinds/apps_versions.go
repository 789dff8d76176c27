// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"maps"
	"math"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	appsv1beta1 "k8s.io/api/apps/v1beta1"
	appsv1beta2 "k8s.io/api/apps/v1beta2"
	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The workloads as they were written from 2016 on. The old versions took selector and labels from the template, and were
// more cautious about history, deadlines and updates; what they alone had is kept in the annotations that upstream uses.
const (
	rollbackAnnotation           = "deprecated.deployment.rollback.to"
	templateGenerationAnnotation = "deprecated.daemonset.template.generation"
)

var (
	deploymentVersions = []Served[appsv1.Deployment]{
		Alike[appsv1.Deployment, appsv1beta2.Deployment]("apps", "v1beta2", nil, nil),
		Alike("apps", "v1beta1", func(in *appsv1beta1.Deployment, out *appsv1.Deployment) {
			if in.Spec.RollbackTo != nil {
				annotate(out, rollbackAnnotation, strconv.FormatInt(in.Spec.RollbackTo.Revision, 10))
			}
		}, func(in *appsv1.Deployment, out *appsv1beta1.Deployment) {
			if n, ok := takeNumber(out, rollbackAnnotation); ok {
				out.Spec.RollbackTo = &appsv1beta1.RollbackConfig{Revision: n}
			}
		}).Defaulted(func(d *appsv1.Deployment) {
			fromTemplate(&d.ObjectMeta, &d.Spec.Selector, d.Spec.Template.Labels)
			orSet(&d.Spec.RevisionHistoryLimit, 2)
		}),
		Alike("extensions", "v1beta1", func(in *extensionsv1beta1.Deployment, out *appsv1.Deployment) {
			if in.Spec.RollbackTo != nil {
				annotate(out, rollbackAnnotation, strconv.FormatInt(in.Spec.RollbackTo.Revision, 10))
			}
		}, func(in *appsv1.Deployment, out *extensionsv1beta1.Deployment) {
			if n, ok := takeNumber(out, rollbackAnnotation); ok {
				out.Spec.RollbackTo = &extensionsv1beta1.RollbackConfig{Revision: n}
			}
		}).Defaulted(func(d *appsv1.Deployment) {
			fromTemplate(&d.ObjectMeta, &d.Spec.Selector, d.Spec.Template.Labels)
			extensionsStrategy(&d.Spec.Strategy)
			orSet(&d.Spec.RevisionHistoryLimit, math.MaxInt32)
			orSet(&d.Spec.ProgressDeadlineSeconds, math.MaxInt32)
		}),
	}
	replicaSetVersions = []Served[appsv1.ReplicaSet]{
		Alike[appsv1.ReplicaSet, appsv1beta2.ReplicaSet]("apps", "v1beta2", nil, nil),
		Alike[appsv1.ReplicaSet, extensionsv1beta1.ReplicaSet]("extensions", "v1beta1", nil, nil).Defaulted(func(r *appsv1.ReplicaSet) {
			fromTemplate(&r.ObjectMeta, &r.Spec.Selector, r.Spec.Template.Labels)
		}),
	}
	daemonSetVersions = []Served[appsv1.DaemonSet]{
		Alike[appsv1.DaemonSet, appsv1beta2.DaemonSet]("apps", "v1beta2", nil, nil),
		Alike("extensions", "v1beta1", func(in *extensionsv1beta1.DaemonSet, out *appsv1.DaemonSet) {
			if n := in.Spec.TemplateGeneration; n != 0 {
				annotate(out, templateGenerationAnnotation, strconv.FormatInt(n, 10))
			}
		}, func(in *appsv1.DaemonSet, out *extensionsv1beta1.DaemonSet) {
			out.Spec.TemplateGeneration, _ = takeNumber(out, templateGenerationAnnotation)
		}).Defaulted(func(d *appsv1.DaemonSet) {
			fromTemplate(&d.ObjectMeta, &d.Spec.Selector, d.Spec.Template.Labels)
			or(&d.Spec.UpdateStrategy.Type, appsv1.OnDeleteDaemonSetStrategyType)
		}),
	}
	statefulSetVersions = []Served[appsv1.StatefulSet]{
		Alike[appsv1.StatefulSet, appsv1beta2.StatefulSet]("apps", "v1beta2", nil, nil),
		Alike[appsv1.StatefulSet, appsv1beta1.StatefulSet]("apps", "v1beta1", nil, nil).Defaulted(func(s *appsv1.StatefulSet) {
			fromTemplate(&s.ObjectMeta, &s.Spec.Selector, s.Spec.Template.Labels)
			or(&s.Spec.UpdateStrategy.Type, appsv1.OnDeleteStatefulSetStrategyType)
		}),
	}
	controllerRevisionVersions = []Served[appsv1.ControllerRevision]{
		Alike[appsv1.ControllerRevision, appsv1beta2.ControllerRevision]("apps", "v1beta2", nil, nil),
		Alike[appsv1.ControllerRevision, appsv1beta1.ControllerRevision]("apps", "v1beta1", nil, nil),
	}
)

// fromTemplate: a workload without selector or labels had those of its pods.
func fromTemplate(m *metav1.ObjectMeta, selector **metav1.LabelSelector, labels map[string]string) {
	if labels == nil {
		return
	}
	orSet(selector, metav1.LabelSelector{MatchLabels: maps.Clone(labels)})
	if len(m.Labels) == 0 {
		m.Labels = maps.Clone(labels)
	}
}

// extensionsStrategy: one pod at a time, where later versions say a quarter.
func extensionsStrategy(s *appsv1.DeploymentStrategy) {
	or(&s.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if s.Type != appsv1.RollingUpdateDeploymentStrategyType && s.RollingUpdate == nil {
		return
	}
	r := appsv1.RollingUpdateDeployment{}
	if s.RollingUpdate != nil {
		r = *s.RollingUpdate
	}
	orSet(&r.MaxUnavailable, intstr.FromInt32(1))
	orSet(&r.MaxSurge, intstr.FromInt32(1))
	s.RollingUpdate = &r
}

// annotate sets an annotation without writing to the map, which is shared.
func annotate(o metav1.Object, key, value string) {
	a := maps.Clone(o.GetAnnotations())
	if a == nil {
		a = map[string]string{}
	}
	a[key] = value
	o.SetAnnotations(a)
}

// take removes an annotation, again without writing to the map.
func take(o metav1.Object, key string) (string, bool) {
	v, ok := o.GetAnnotations()[key]
	if !ok {
		return "", false
	}
	a := maps.Clone(o.GetAnnotations())
	if delete(a, key); len(a) == 0 {
		a = nil
	}
	o.SetAnnotations(a)
	return v, true
}

// takeNumber leaves what is no number where it is.
func takeNumber(o metav1.Object, key string) (int64, bool) {
	n, err := strconv.ParseInt(o.GetAnnotations()[key], 10, 64)
	if err != nil {
		return 0, false
	}
	take(o, key)
	return n, true
}
