// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// DaemonSet is apps/v1 DaemonSet.
var DaemonSet = Kind[appsv1.DaemonSet]{
	Group: "apps", Version: "v1", Name: "DaemonSet", Plural: "daemonsets", Short: []string{"ds"}, Categories: []string{"all"},
	Validate: validateDaemonSet,
	ValidateUpdate: func(new, old *appsv1.DaemonSet) field.ErrorList {
		f := &faults{}
		f.immutable(field.NewPath("spec", "selector"), new.Spec.Selector, old.Spec.Selector)
		return f.list
	},
	Served:    daemonSetVersions,
	HasStatus: true,
	Default:   defaultDaemonSet,
	Columns: append([]Column[appsv1.DaemonSet]{
		nameColumn[appsv1.DaemonSet](),
		number("Desired", "Nodes that should run it.", func(d *appsv1.DaemonSet) int64 { return int64(d.Status.DesiredNumberScheduled) }),
		number("Current", "Nodes that should and do run it.", func(d *appsv1.DaemonSet) int64 { return int64(d.Status.CurrentNumberScheduled) }),
		number("Ready", "Nodes where it is ready.", func(d *appsv1.DaemonSet) int64 { return int64(d.Status.NumberReady) }),
		number("Up-to-date", "Nodes that run the newest template.", func(d *appsv1.DaemonSet) int64 { return int64(d.Status.UpdatedNumberScheduled) }),
		number("Available", "Nodes where it is ready for at least minReadySeconds.", func(d *appsv1.DaemonSet) int64 { return int64(d.Status.NumberAvailable) }),
		text("Node Selector", "Which nodes run it.", 0, func(d *appsv1.DaemonSet) string {
			return labels.FormatLabels(d.Spec.Template.Spec.NodeSelector)
		}),
		ageColumn[appsv1.DaemonSet](),
	}, templateColumns(func(d *appsv1.DaemonSet) (*corev1.PodSpec, *metav1.LabelSelector) {
		return &d.Spec.Template.Spec, d.Spec.Selector
	})...),
}

func defaultDaemonSet(d *appsv1.DaemonSet) {
	s := &d.Spec.UpdateStrategy
	or(&s.Type, appsv1.RollingUpdateDaemonSetStrategyType)
	if s.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		orSet(&s.RollingUpdate, appsv1.RollingUpdateDaemonSet{})
		orSet(&s.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
		orSet(&s.RollingUpdate.MaxSurge, intstr.FromInt32(0))
	}
	orSet(&d.Spec.RevisionHistoryLimit, 10)
	defaultPodSpec(&d.Spec.Template.Spec)
}
