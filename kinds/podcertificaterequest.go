// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// PodCertificateRequest is certificates.k8s.io/v1 PodCertificateRequest: a kubelet asks for a certificate for a pod.
var PodCertificateRequest = Kind[certificatesv1.PodCertificateRequest]{
	Group: "certificates.k8s.io", Version: "v1", Name: "PodCertificateRequest", Plural: "podcertificaterequests",
	Validate:       validatePodCertificate,
	ValidateUpdate: validatePodCertificateUpdate,
	HasStatus:      true, NoGeneration: true,
	Fields: func(r *certificatesv1.PodCertificateRequest) fields.Set {
		return fields.Set{"spec.signerName": r.Spec.SignerName, "spec.podName": r.Spec.PodName, "spec.nodeName": string(r.Spec.NodeName)}
	},
	Columns: []Column[certificatesv1.PodCertificateRequest]{
		nameColumn[certificatesv1.PodCertificateRequest](),
		text("PodName", "The pod it is for.", 0, func(r *certificatesv1.PodCertificateRequest) string { return r.Spec.PodName }),
		text("ServiceAccountName", "Its service account.", 0, func(r *certificatesv1.PodCertificateRequest) string { return r.Spec.ServiceAccountName }),
		text("NodeName", "Its node.", 0, func(r *certificatesv1.PodCertificateRequest) string { return string(r.Spec.NodeName) }),
		text("SignerName", "Who is asked to sign.", 0, func(r *certificatesv1.PodCertificateRequest) string { return r.Spec.SignerName }),
		text("State", "Pending, Issued, Denied or Failed.", 0, func(r *certificatesv1.PodCertificateRequest) string {
			state := "Pending"
			for _, c := range r.Status.Conditions {
				switch c.Type {
				case certificatesv1.PodCertificateRequestConditionTypeIssued, certificatesv1.PodCertificateRequestConditionTypeDenied,
					certificatesv1.PodCertificateRequestConditionTypeFailed:
					state = c.Type
				}
			}
			return state
		}),
		text("UnverifiedUserAnnotations", "What the pod's author told the signer.", wide, func(r *certificatesv1.PodCertificateRequest) string {
			return labels.FormatLabels(r.Spec.UnverifiedUserAnnotations)
		}),
	},
}
