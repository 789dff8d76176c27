// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Namespace is core/v1 Namespace. Its finalizers are in the spec, and only the finalize subresource changes them.
var Namespace = Kind[corev1.Namespace]{
	Version: "v1", Name: "Namespace", Plural: "namespaces", Short: []string{"ns"}, Cluster: true,
	HasStatus: true, NoGeneration: true,
	ValidateName: apivalidation.NameIsDNSLabel,
	Default: func(n *corev1.Namespace) {
		// Selectors find a namespace by its name through this label.
		if n.Name != "" && n.Labels[corev1.LabelMetadataName] != n.Name {
			if n.Labels == nil {
				n.Labels = map[string]string{}
			}
			n.Labels[corev1.LabelMetadataName] = n.Name
		}
		or(&n.Status.Phase, corev1.NamespaceActive)
	},
	Validate: func(n *corev1.Namespace) field.ErrorList {
		f := &faults{}
		for i, name := range n.Spec.Finalizers {
			f.add(apivalidation.ValidateFinalizerName(string(name), field.NewPath("spec", "finalizers").Index(i))...)
		}
		return f.list
	},
	ValidateStatus: func(new, _ *corev1.Namespace) field.ErrorList {
		f := &faults{}
		at := field.NewPath("status", "phase")
		if new.DeletionTimestamp.IsZero() && new.Status.Phase != corev1.NamespaceActive {
			f.invalid(at, new.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")
		}
		if !new.DeletionTimestamp.IsZero() && new.Status.Phase != corev1.NamespaceTerminating {
			f.invalid(at, new.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")
		}
		return f.list
	},
	BeforeCreate: func(n *corev1.Namespace) {
		n.Status.Phase = corev1.NamespaceActive
		if !slices.Contains(n.Spec.Finalizers, corev1.FinalizerKubernetes) {
			n.Spec.Finalizers = append(n.Spec.Finalizers, corev1.FinalizerKubernetes)
		}
	},
	BeforeUpdate: func(new, old *corev1.Namespace) { new.Spec.Finalizers = old.Spec.Finalizers },
	Fields: func(n *corev1.Namespace) fields.Set {
		return fields.Set{"status.phase": string(n.Status.Phase), "name": n.Name}
	},
	Columns: []Column[corev1.Namespace]{
		nameColumn[corev1.Namespace](),
		text("Status", "Active, or Terminating while its objects are removed.", 0, func(n *corev1.Namespace) string { return string(n.Status.Phase) }),
		ageColumn[corev1.Namespace](),
	},
}
