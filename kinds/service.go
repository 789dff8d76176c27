// SPDX-License-Identifier: Apache-2.0

package kinds

import corev1 "k8s.io/api/core/v1"

// Service is core/v1 Service.
var Service = Kind[corev1.Service]{
	Version: "v1", Name: "Service", Plural: "services", Short: []string{"svc"}, Categories: []string{"all"}, Storage: "services/specs",
	HasStatus: true, NoGeneration: true,
}
