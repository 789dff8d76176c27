// SPDX-License-Identifier: Apache-2.0

package kinds

import coordinationv1 "k8s.io/api/coordination/v1"

// Lease is coordination.k8s.io/v1 Lease.
var Lease = Kind[coordinationv1.Lease]{
	Group: "coordination.k8s.io", Version: "v1", Name: "Lease", Plural: "leases",
	NoGeneration: true,
}
