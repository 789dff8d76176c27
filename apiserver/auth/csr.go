// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/x509"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/knarr/knarr/internal/errs"
)

// SignRequest makes a certificate of a request that somebody has checked: its subject and names, for the usages asked for. It
// never makes an authority.
func (a *Authority) SignRequest(r *x509.CertificateRequest, usages []certificatesv1.KeyUsage, life time.Duration) ([]byte, error) {
	t := &x509.Certificate{
		Subject: r.Subject, DNSNames: r.DNSNames, IPAddresses: r.IPAddresses, EmailAddresses: r.EmailAddresses, URIs: r.URIs,
		BasicConstraintsValid: true,
	}
	for _, u := range usages {
		switch u {
		case certificatesv1.UsageDigitalSignature, certificatesv1.UsageSigning:
			t.KeyUsage |= x509.KeyUsageDigitalSignature
		case certificatesv1.UsageKeyEncipherment:
			t.KeyUsage |= x509.KeyUsageKeyEncipherment
		case certificatesv1.UsageClientAuth:
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		case certificatesv1.UsageServerAuth:
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		default:
			return nil, errs.New(errs.Unsupported, "certificates for the usage %q are not signed; ask for digital signature, key encipherment, client auth or server auth", u)
		}
	}
	return a.sign(t, a.ca.cert, r.PublicKey, a.ca.key, life)
}
