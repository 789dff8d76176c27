// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// PodDisruptionBudget is policy/v1 PodDisruptionBudget: how many pods of a set may be evicted at once.
var PodDisruptionBudget = Kind[policyv1.PodDisruptionBudget]{
	Group: "policy", Version: "v1", Name: "PodDisruptionBudget", Plural: "poddisruptionbudgets", Short: []string{"pdb"},
	Validate:  validateBudget,
	Served:    budgetVersions,
	HasStatus: true,
	Columns: []Column[policyv1.PodDisruptionBudget]{
		nameColumn[policyv1.PodDisruptionBudget](),
		text("Min Available", "How many pods must stay.", 0, func(b *policyv1.PodDisruptionBudget) string { return orNA(b.Spec.MinAvailable) }),
		text("Max Unavailable", "How many pods may be missing.", 0, func(b *policyv1.PodDisruptionBudget) string { return orNA(b.Spec.MaxUnavailable) }),
		number("Allowed Disruptions", "How many evictions would be allowed now.", func(b *policyv1.PodDisruptionBudget) int64 {
			return int64(b.Status.DisruptionsAllowed)
		}),
		ageColumn[policyv1.PodDisruptionBudget](),
	},
}

func orNA(v *intstr.IntOrString) string {
	if v == nil {
		return "N/A"
	}
	return v.String()
}
