// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// PodTemplate is core/v1 PodTemplate: a template that others copy.
var PodTemplate = Kind[corev1.PodTemplate]{
	Version: "v1", Name: "PodTemplate", Plural: "podtemplates",
	Default: func(t *corev1.PodTemplate) { defaultPodSpec(&t.Template.Spec) },
	Validate: func(t *corev1.PodTemplate) field.ErrorList {
		f := &faults{}
		validateTemplate(f, field.NewPath("template"), &t.Template)
		return f.list
	},
	Columns: podTemplateColumns(),
}

func podTemplateColumns() []Column[corev1.PodTemplate] {
	of := templateColumns(func(t *corev1.PodTemplate) (*corev1.PodSpec, *metav1.LabelSelector) { return &t.Template.Spec, nil })
	of[0].Priority, of[1].Priority = 0, 0
	return []Column[corev1.PodTemplate]{
		nameColumn[corev1.PodTemplate](), of[0], of[1],
		text("Pod Labels", "Labels of the pods made from it.", 0, func(t *corev1.PodTemplate) string {
			return labels.FormatLabels(t.Template.Labels)
		}),
	}
}
