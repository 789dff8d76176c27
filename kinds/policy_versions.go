// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// An empty selector of a budget meant no pod in v1beta1, and means every pod since; the two are written as rules about a
// label that nothing has, with upstream's name for it.
var budgetVersions = []Served[policyv1.PodDisruptionBudget]{
	Alike("policy", "v1beta1", func(in *policyv1beta1.PodDisruptionBudget, out *policyv1.PodDisruptionBudget) {
		out.Spec.Selector = swap(in.Spec.Selector, noLabel(metav1.LabelSelectorOpExists), noLabel(metav1.LabelSelectorOpDoesNotExist))
	}, func(in *policyv1.PodDisruptionBudget, out *policyv1beta1.PodDisruptionBudget) {
		out.Spec.Selector = swap(in.Spec.Selector, noLabel(metav1.LabelSelectorOpDoesNotExist), noLabel(metav1.LabelSelectorOpExists))
	}),
}

func noLabel(op metav1.LabelSelectorOperator) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match", Operator: op},
	}}
}

// swap writes the empty selector as spelled, and what it is spelled as on the other side as empty.
func swap(s, spelled, empty *metav1.LabelSelector) *metav1.LabelSelector {
	switch {
	case s == nil:
		return nil
	case equality.Semantic.DeepEqual(s, &metav1.LabelSelector{}):
		return spelled
	case equality.Semantic.DeepEqual(s, empty):
		return &metav1.LabelSelector{}
	}
	return s
}
