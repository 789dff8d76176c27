// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	coordinationv1alpha2 "k8s.io/api/coordination/v1alpha2"
	coordinationv1beta1 "k8s.io/api/coordination/v1beta1"
)

// LeaseCandidate is coordination.k8s.io/v1beta1 LeaseCandidate: who would lead, and which version it is.
var LeaseCandidate = Kind[coordinationv1beta1.LeaseCandidate]{
	Group: "coordination.k8s.io", Version: "v1beta1", Name: "LeaseCandidate", Plural: "leasecandidates",
	Validate:       validateLeaseCandidate,
	ValidateUpdate: validateLeaseCandidateUpdate,
	Served:         []Served[coordinationv1beta1.LeaseCandidate]{Alike[coordinationv1beta1.LeaseCandidate, coordinationv1alpha2.LeaseCandidate]("coordination.k8s.io", "v1alpha2", nil, nil)},
	NoGeneration:   true,
	Columns: []Column[coordinationv1beta1.LeaseCandidate]{
		nameColumn[coordinationv1beta1.LeaseCandidate](),
		text("LeaseName", "The lease it wants.", 0, func(l *coordinationv1beta1.LeaseCandidate) string { return l.Spec.LeaseName }),
		text("BinaryVersion", "Its version.", 0, func(l *coordinationv1beta1.LeaseCandidate) string { return l.Spec.BinaryVersion }),
		text("EmulationVersion", "The version it acts as.", 0, func(l *coordinationv1beta1.LeaseCandidate) string { return l.Spec.EmulationVersion }),
		ageColumn[coordinationv1beta1.LeaseCandidate](),
	},
}
