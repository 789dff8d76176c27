// SPDX-License-Identifier: Apache-2.0

package kinds

import corev1 "k8s.io/api/core/v1"

// DefaultAccount is the ServiceAccount of pods that name none; each namespace has it.
const DefaultAccount = "default"

// ServiceAccount is core/v1 ServiceAccount.
var ServiceAccount = Kind[corev1.ServiceAccount]{
	Version: "v1", Name: "ServiceAccount", Plural: "serviceaccounts", Short: []string{"sa"},
	NoGeneration: true,
	Columns: []Column[corev1.ServiceAccount]{
		nameColumn[corev1.ServiceAccount](),
		number("Secrets", "How many secrets its pods may use.", func(a *corev1.ServiceAccount) int64 { return int64(len(a.Secrets)) }),
		ageColumn[corev1.ServiceAccount](),
	},
}
