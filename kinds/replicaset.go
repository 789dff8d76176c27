// SPDX-License-Identifier: Apache-2.0

package kinds

import appsv1 "k8s.io/api/apps/v1"

// ReplicaSet is apps/v1 ReplicaSet.
var ReplicaSet = Kind[appsv1.ReplicaSet]{
	Group: "apps", Version: "v1", Name: "ReplicaSet", Plural: "replicasets", Short: []string{"rs"}, Categories: []string{"all"},
	HasStatus: true,
}
