// SPDX-License-Identifier: Apache-2.0

package kinds

import corev1 "k8s.io/api/core/v1"

// Pod is core/v1 Pod.
var Pod = Kind[corev1.Pod]{
	Version: "v1", Name: "Pod", Plural: "pods", Short: []string{"po"}, Categories: []string{"all"},
	HasStatus: true,
}
