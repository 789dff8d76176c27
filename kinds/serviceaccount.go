// SPDX-License-Identifier: Apache-2.0

package kinds

import corev1 "k8s.io/api/core/v1"

// ServiceAccount is core/v1 ServiceAccount.
var ServiceAccount = Kind[corev1.ServiceAccount]{
	Version: "v1", Name: "ServiceAccount", Plural: "serviceaccounts", Short: []string{"sa"},
	NoGeneration: true,
}
