// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Admission by expressions (CEL): policies say what, bindings where.
var (
	ValidatingAdmissionPolicy = Kind[admissionregistrationv1.ValidatingAdmissionPolicy]{
		Group: "admissionregistration.k8s.io", Version: "v1", Name: "ValidatingAdmissionPolicy", Plural: "validatingadmissionpolicies",
		Served:         validatingPolicyVersions,
		Validate:       validateValidatingPolicy,
		ValidateStatus: validatePolicyStatus,
		Categories:     []string{"api-extensions"}, Cluster: true, HasStatus: true,
		Default: func(p *admissionregistrationv1.ValidatingAdmissionPolicy) {
			orSet(&p.Spec.FailurePolicy, admissionregistrationv1.Fail)
			defaultMatch(p.Spec.MatchConstraints)
		},
		Columns: []Column[admissionregistrationv1.ValidatingAdmissionPolicy]{
			nameColumn[admissionregistrationv1.ValidatingAdmissionPolicy](),
			number("Validations", "How many it has.", func(p *admissionregistrationv1.ValidatingAdmissionPolicy) int64 {
				return int64(len(p.Spec.Validations))
			}),
			text("ParamKind", "What its parameters are.", 0, func(p *admissionregistrationv1.ValidatingAdmissionPolicy) string { return paramKind(p.Spec.ParamKind) }),
			ageColumn[admissionregistrationv1.ValidatingAdmissionPolicy](),
		},
	}
	ValidatingAdmissionPolicyBinding = Kind[admissionregistrationv1.ValidatingAdmissionPolicyBinding]{
		Group: "admissionregistration.k8s.io", Version: "v1", Name: "ValidatingAdmissionPolicyBinding", Plural: "validatingadmissionpolicybindings",
		Served:     validatingBindingVersions,
		Validate:   validateValidatingBinding,
		Categories: []string{"api-extensions"}, Cluster: true,
		Default: func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) { defaultMatch(b.Spec.MatchResources) },
		Columns: []Column[admissionregistrationv1.ValidatingAdmissionPolicyBinding]{
			nameColumn[admissionregistrationv1.ValidatingAdmissionPolicyBinding](),
			text("PolicyName", "Which policy it applies.", 0, func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) string { return b.Spec.PolicyName }),
			text("ParamRef", "With which parameters.", 0, func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) string {
				return paramRef(b.Spec.ParamRef)
			}),
			ageColumn[admissionregistrationv1.ValidatingAdmissionPolicyBinding](),
		},
	}
	MutatingAdmissionPolicy = Kind[admissionregistrationv1.MutatingAdmissionPolicy]{
		Group: "admissionregistration.k8s.io", Version: "v1", Name: "MutatingAdmissionPolicy", Plural: "mutatingadmissionpolicies",
		Served:     mutatingPolicyVersions,
		Validate:   validateMutatingPolicy,
		Categories: []string{"api-extensions"}, Cluster: true,
		Default: func(p *admissionregistrationv1.MutatingAdmissionPolicy) {
			orSet(&p.Spec.FailurePolicy, admissionregistrationv1.Fail)
			defaultMatch(p.Spec.MatchConstraints)
		},
		Columns: []Column[admissionregistrationv1.MutatingAdmissionPolicy]{
			nameColumn[admissionregistrationv1.MutatingAdmissionPolicy](),
			number("Mutations", "How many it has.", func(p *admissionregistrationv1.MutatingAdmissionPolicy) int64 { return int64(len(p.Spec.Mutations)) }),
			text("ParamKind", "What its parameters are.", 0, func(p *admissionregistrationv1.MutatingAdmissionPolicy) string { return paramKind(p.Spec.ParamKind) }),
			ageColumn[admissionregistrationv1.MutatingAdmissionPolicy](),
		},
	}
	MutatingAdmissionPolicyBinding = Kind[admissionregistrationv1.MutatingAdmissionPolicyBinding]{
		Group: "admissionregistration.k8s.io", Version: "v1", Name: "MutatingAdmissionPolicyBinding", Plural: "mutatingadmissionpolicybindings",
		Served:     mutatingBindingVersions,
		Validate:   validateMutatingBinding,
		Categories: []string{"api-extensions"}, Cluster: true,
		Default: func(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) { defaultMatch(b.Spec.MatchResources) },
		Columns: []Column[admissionregistrationv1.MutatingAdmissionPolicyBinding]{
			nameColumn[admissionregistrationv1.MutatingAdmissionPolicyBinding](),
			text("PolicyName", "Which policy it applies.", 0, func(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) string { return b.Spec.PolicyName }),
			text("ParamRef", "With which parameters.", 0, func(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) string {
				return paramRef(b.Spec.ParamRef)
			}),
			ageColumn[admissionregistrationv1.MutatingAdmissionPolicyBinding](),
		},
	}
)

func defaultMatch(m *admissionregistrationv1.MatchResources) {
	if m == nil {
		return
	}
	orSet(&m.MatchPolicy, admissionregistrationv1.Equivalent)
	orSet(&m.NamespaceSelector, metav1.LabelSelector{})
	orSet(&m.ObjectSelector, metav1.LabelSelector{})
	for _, rules := range [][]admissionregistrationv1.NamedRuleWithOperations{m.ResourceRules, m.ExcludeResourceRules} {
		for i := range rules {
			orSet(&rules[i].Scope, admissionregistrationv1.AllScopes)
		}
	}
}

func paramKind(k *admissionregistrationv1.ParamKind) string {
	if k == nil {
		return unset
	}
	return k.APIVersion + "/" + k.Kind
}

func paramRef(r *admissionregistrationv1.ParamRef) string {
	switch {
	case r == nil:
		return unset
	case r.Name != "" && r.Namespace != "":
		return r.Namespace + "/" + r.Name
	case r.Name != "":
		return "*/" + r.Name
	case r.Selector != nil:
		return metav1.FormatLabelSelector(r.Selector)
	}
	return unset
}
