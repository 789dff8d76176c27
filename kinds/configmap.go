// SPDX-License-Identifier: Apache-2.0

package kinds

import corev1 "k8s.io/api/core/v1"

// ConfigMap is core/v1 ConfigMap.
var ConfigMap = Kind[corev1.ConfigMap]{
	Version: "v1", Name: "ConfigMap", Plural: "configmaps", Short: []string{"cm"},
	NoGeneration: true,
}
