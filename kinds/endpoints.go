// SPDX-License-Identifier: Apache-2.0

package kinds

import corev1 "k8s.io/api/core/v1"

// Endpoints is core/v1 Endpoints.
var Endpoints = Kind[corev1.Endpoints]{
	Version: "v1", Name: "Endpoints", Plural: "endpoints", Short: []string{"ep"}, Storage: "services/endpoints",
	NoGeneration: true,
}
