// SPDX-License-Identifier: Apache-2.0

package kinds

import corev1 "k8s.io/api/core/v1"

// Node is core/v1 Node, stored as minions as ever.
var Node = Kind[corev1.Node]{
	Version: "v1", Name: "Node", Plural: "nodes", Short: []string{"no"}, Storage: "minions", Cluster: true,
	HasStatus: true, StatusOnCreate: true, NoGeneration: true,
}
