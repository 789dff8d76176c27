// SPDX-License-Identifier: Apache-2.0

package kinds

import corev1 "k8s.io/api/core/v1"

// Secret is core/v1 Secret.
var Secret = Kind[corev1.Secret]{
	Version: "v1", Name: "Secret", Plural: "secrets",
	NoGeneration: true,
}
