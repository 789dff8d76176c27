// SPDX-License-Identifier: Apache-2.0

package kinds

import corev1 "k8s.io/api/core/v1"

// Namespace is core/v1 Namespace.
var Namespace = Kind[corev1.Namespace]{
	Version: "v1", Name: "Namespace", Plural: "namespaces", Short: []string{"ns"}, Cluster: true,
	HasStatus: true, NoGeneration: true,
}
