// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/duration"
)

// CertificateSigningRequest is certificates.k8s.io/v1 CertificateSigningRequest.
var CertificateSigningRequest = Kind[certificatesv1.CertificateSigningRequest]{
	Group: "certificates.k8s.io", Version: "v1", Name: "CertificateSigningRequest", Plural: "certificatesigningrequests",
	Validate:       validateSigningRequest,
	ValidateStatus: validateSigningStatus,
	ValidateName:   pathSegment,
	Served:         signingRequestVersions,
	Short:          []string{"csr"}, Cluster: true,
	HasStatus: true, NoGeneration: true,
	// A request that could change after somebody approved it would be no request.
	BeforeUpdate: func(new, old *certificatesv1.CertificateSigningRequest) { new.Spec = old.Spec },
	Fields: func(r *certificatesv1.CertificateSigningRequest) fields.Set {
		return fields.Set{"spec.signerName": r.Spec.SignerName}
	},
	Columns: []Column[certificatesv1.CertificateSigningRequest]{
		nameColumn[certificatesv1.CertificateSigningRequest](),
		ageColumn[certificatesv1.CertificateSigningRequest](),
		text("SignerName", "Who is asked to sign.", 0, func(r *certificatesv1.CertificateSigningRequest) string { return orNone(r.Spec.SignerName) }),
		text("Requestor", "Who asks.", 0, func(r *certificatesv1.CertificateSigningRequest) string { return r.Spec.Username }),
		text("RequestedDuration", "For how long.", 0, func(r *certificatesv1.CertificateSigningRequest) string {
			if r.Spec.ExpirationSeconds == nil {
				return none
			}
			return duration.HumanDuration(time.Duration(*r.Spec.ExpirationSeconds) * time.Second)
		}),
		text("Condition", "Pending, Approved, Denied; Failed, Issued.", 0, requestState),
	},
}

func requestState(r *certificatesv1.CertificateSigningRequest) string {
	has := map[certificatesv1.RequestConditionType]bool{}
	for _, c := range r.Status.Conditions {
		has[c.Type] = true
	}
	state := "Pending"
	switch {
	case has[certificatesv1.CertificateDenied]:
		state = "Denied"
	case has[certificatesv1.CertificateApproved]:
		state = "Approved"
	}
	if has[certificatesv1.CertificateFailed] {
		state += ",Failed"
	}
	if len(r.Status.Certificate) > 0 {
		state += ",Issued"
	}
	return state
}
