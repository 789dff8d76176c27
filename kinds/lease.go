// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	coordinationv1beta1 "k8s.io/api/coordination/v1beta1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Lease is coordination.k8s.io/v1 Lease: who leads, and which nodes live.
var Lease = Kind[coordinationv1.Lease]{
	Group: "coordination.k8s.io", Version: "v1", Name: "Lease", Plural: "leases",
	Served:       []Served[coordinationv1.Lease]{Alike[coordinationv1.Lease, coordinationv1beta1.Lease]("coordination.k8s.io", "v1beta1", nil, nil)},
	NoGeneration: true,
	Validate:     validateLease,
	Columns: []Column[coordinationv1.Lease]{
		nameColumn[coordinationv1.Lease](),
		text("Holder", "Who holds it now.", 0, func(l *coordinationv1.Lease) string {
			if l.Spec.HolderIdentity == nil {
				return ""
			}
			return *l.Spec.HolderIdentity
		}),
		ageColumn[coordinationv1.Lease](),
	},
}

func validateLease(l *coordinationv1.Lease) field.ErrorList {
	f := &faults{}
	p := field.NewPath("spec")
	if n := l.Spec.LeaseDurationSeconds; n != nil {
		f.positive(p.Child("leaseDurationSeconds"), int64(*n))
	}
	if n := l.Spec.LeaseTransitions; n != nil {
		f.nonNegative(p.Child("leaseTransitions"), int64(*n))
	}
	if s := l.Spec.Strategy; s != nil {
		supported(f, p.Child("strategy"), *s, coordinationv1.OldestEmulationVersion)
	}
	if h := l.Spec.PreferredHolder; h != nil && *h != "" && (l.Spec.Strategy == nil || *l.Spec.Strategy == "") {
		f.forbidden(p.Child("preferredHolder"), "may only be specified if `strategy` is defined")
	}
	return f.list
}
