// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/knarr/knarr/apiserver/auth"
)

// certificateRequester writes down who asks for a certificate: signers decide by it, so it is never the client's word.
func certificateRequester() Step {
	return Step{Name: "CertificateRequester", Mutate: func(_ context.Context, r *Request) error {
		csr, ok := r.Object.(*certificatesv1.CertificateSigningRequest)
		if !ok || r.Verb != Create || r.Subresource != "" {
			return nil
		}
		csr.Spec.Username, csr.Spec.UID, csr.Spec.Groups, csr.Spec.Extra = r.User.Name, r.User.UID, slices.Clone(r.User.Groups), nil
		for k, v := range r.User.Extra {
			if csr.Spec.Extra == nil {
				csr.Spec.Extra = map[string]certificatesv1.ExtraValue{}
			}
			csr.Spec.Extra[k] = v
		}
		return nil
	}}
}

// certificateApproval: only who may approve for a signer may say that a request is approved or denied.
func certificateApproval(z *auth.Authorizer) Step {
	return Step{Name: "CertificateApproval", Validate: func(_ context.Context, r *Request) error {
		old, ok := r.Old.(*certificatesv1.CertificateSigningRequest)
		if !ok || r.Subresource != "approval" || r.Verb != Update {
			return nil
		}
		if !maySigner(z, r.User, "approve", old.Spec.SignerName) {
			return forbidden(r, "user not permitted to approve requests with signerName %q", old.Spec.SignerName)
		}
		return nil
	}}
}

// certificateSigning: only who may sign for a signer may put a certificate, or a failure, into a request's status.
func certificateSigning(z *auth.Authorizer) Step {
	return Step{Name: "CertificateSigning", Validate: func(_ context.Context, r *Request) error {
		old, ok := r.Old.(*certificatesv1.CertificateSigningRequest)
		csr, is := r.Object.(*certificatesv1.CertificateSigningRequest)
		if !ok || !is || r.Subresource != "status" || r.Verb != Update {
			return nil
		}
		same := bytes.Equal(old.Status.Certificate, csr.Status.Certificate) && failed(old) == failed(csr)
		if !same && !maySigner(z, r.User, "sign", old.Spec.SignerName) {
			return forbidden(r, "user not permitted to sign requests with signerName %q", old.Spec.SignerName)
		}
		return nil
	}}
}

func failed(csr *certificatesv1.CertificateSigningRequest) bool {
	return slices.ContainsFunc(csr.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool {
		return c.Type == certificatesv1.CertificateFailed
	})
}

// maySigner asks for the signer itself, and for all of its domain.
func maySigner(z *auth.Authorizer, u auth.User, verb, signer string) bool {
	a := auth.Attributes{User: u, Verb: verb, Group: certificatesv1.GroupName, Version: "*", Resource: "signers", Name: signer}
	if ok, _ := z.Authorize(a); ok {
		return true
	}
	domain, _, found := strings.Cut(signer, "/")
	if !found {
		return false
	}
	a.Name = domain + "/*"
	ok, _ := z.Authorize(a)
	return ok
}

// certificateSubject: nobody gets a client certificate for the group that may do everything by way of the API.
func certificateSubject() Step {
	return Step{Name: "CertificateSubjectRestriction", Validate: func(_ context.Context, r *Request) error {
		csr, ok := r.Object.(*certificatesv1.CertificateSigningRequest)
		if !ok || r.Verb != Create || csr.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
			return nil
		}
		block, _ := pem.Decode(csr.Spec.Request)
		if block == nil {
			return forbidden(r, "unable to parse the certificate signing request: no PEM block")
		}
		req, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return forbidden(r, "unable to parse the certificate signing request: %v", err)
		}
		if slices.Contains(req.Subject.Organization, auth.Masters) {
			return forbidden(r, "use of %s signer with system:masters group is not allowed", certificatesv1.KubeAPIServerClientSignerName)
		}
		return nil
	}}
}
