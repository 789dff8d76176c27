// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1alpha1 "k8s.io/api/certificates/v1alpha1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
)

// legacySigner signs what v1beta1 did not say who should; v1 has no such signer.
const legacySigner = certificatesv1beta1.LegacyUnknownSignerName

var (
	signingRequestVersions = []Served[certificatesv1.CertificateSigningRequest]{
		Alike[certificatesv1.CertificateSigningRequest, certificatesv1beta1.CertificateSigningRequest]("certificates.k8s.io", "v1beta1", nil, nil).
			Defaulted(func(r *certificatesv1.CertificateSigningRequest) {
				if r.Spec.Usages == nil {
					r.Spec.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment}
				}
				if r.Spec.SignerName == "" {
					r.Spec.SignerName = guessSigner(&r.Spec)
				}
				for i := range r.Status.Conditions {
					or(&r.Status.Conditions[i].Status, corev1.ConditionTrue)
				}
			}),
	}
	trustBundleVersions = []Served[certificatesv1.ClusterTrustBundle]{
		Alike[certificatesv1.ClusterTrustBundle, certificatesv1beta1.ClusterTrustBundle]("certificates.k8s.io", "v1beta1", nil, nil),
		Alike[certificatesv1.ClusterTrustBundle, certificatesv1alpha1.ClusterTrustBundle]("certificates.k8s.io", "v1alpha1", nil, nil),
	}
)

// guessSigner: what asks for what a kubelet has, in a kubelet's name, is a kubelet's request.
func guessSigner(s *certificatesv1.CertificateSigningRequestSpec) string {
	block, _ := pem.Decode(s.Request)
	if block == nil {
		return legacySigner
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || !slices.Equal(req.Subject.Organization, []string{"system:nodes"}) || !strings.HasPrefix(req.Subject.CommonName, "system:node:") ||
		len(req.EmailAddresses)+len(req.URIs) > 0 {
		return legacySigner
	}
	uses := func(extra certificatesv1.KeyUsage) bool {
		for _, u := range s.Usages {
			if u != extra && u != certificatesv1.UsageDigitalSignature && u != certificatesv1.UsageKeyEncipherment {
				return false
			}
		}
		return slices.Contains(s.Usages, extra) && slices.Contains(s.Usages, certificatesv1.UsageDigitalSignature)
	}
	names := len(req.DNSNames) + len(req.IPAddresses)
	switch {
	case names == 0 && uses(certificatesv1.UsageClientAuth):
		return certificatesv1.KubeAPIServerClientKubeletSignerName
	case names > 0 && uses(certificatesv1.UsageServerAuth):
		return certificatesv1.KubeletServingSignerName
	}
	return legacySigner
}
