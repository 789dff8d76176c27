// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// signerName: a domain of two parts at least, and a path.
func (f *faults) signerName(p *field.Path, name string) {
	if !f.need(p, name) {
		return
	}
	domain, path, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(path, "/") {
		f.invalid(p, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")
		return
	}
	if len(domain) > validation.DNS1123SubdomainMaxLength {
		f.add(field.TooLong(p, "", validation.DNS1123SubdomainMaxLength))
	}
	labels := strings.Split(domain, ".")
	f.parts(p, domain, labels, validation.IsDNS1123Label)
	if len(labels) < 2 {
		f.invalid(p, domain, "should be a domain with at least two segments separated by dots")
	}
	f.parts(p, path, strings.Split(path, "."), validation.IsDNS1123Subdomain)
	const most = 2*validation.DNS1123SubdomainMaxLength + validation.DNS1123LabelMaxLength + 2
	if len(name) > most {
		f.add(field.TooLong(p, "", most))
	}
}

// parts reports the first of the parts of whole that check has something against.
func (f *faults) parts(p *field.Path, whole string, parts []string, check func(string) []string) {
	for _, part := range parts {
		if list := check(part); len(list) > 0 {
			for _, why := range list {
				f.invalid(p, whole, fmt.Sprintf("validating label %q: %s", part, why))
			}
			return
		}
	}
}

func validateSigningRequest(r *certificatesv1.CertificateSigningRequest) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &r.Spec
	if err := checkRequest(s.Request); err != nil {
		f.invalid(p.Child("request"), s.Request, err.Error())
	}
	if len(s.Usages) == 0 {
		f.required(p.Child("usages"), "")
	}
	seen := unique{}
	for i, u := range s.Usages {
		supported(f, p.Child("usages").Index(i), u, keyUsages()...)
		seen.check(f, p.Child("usages").Index(i), string(u))
	}
	f.signerName(p.Child("signerName"), s.SignerName)
	if n := s.ExpirationSeconds; n != nil && *n < 600 {
		f.invalid(p.Child("expirationSeconds"), *n, "may not specify a duration less than 600 seconds (10 minutes)")
	}
	return f.list
}

func keyUsages() []certificatesv1.KeyUsage {
	return []certificatesv1.KeyUsage{
		certificatesv1.UsageSigning, certificatesv1.UsageDigitalSignature, certificatesv1.UsageContentCommitment, certificatesv1.UsageKeyEncipherment,
		certificatesv1.UsageKeyAgreement, certificatesv1.UsageDataEncipherment, certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign,
		certificatesv1.UsageEncipherOnly, certificatesv1.UsageDecipherOnly, certificatesv1.UsageAny, certificatesv1.UsageServerAuth,
		certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning, certificatesv1.UsageEmailProtection, certificatesv1.UsageSMIME,
		certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel, certificatesv1.UsageIPsecUser, certificatesv1.UsageTimestamping,
		certificatesv1.UsageOCSPSigning, certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC,
	}
}

// checkRequest: a PKCS #10 request, signed with the key it is for.
func checkRequest(raw []byte) error {
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	return req.CheckSignature()
}

// validateSigningStatus: the signer writes the certificate, once; who approves writes elsewhere.
func validateSigningStatus(new, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	f := &faults{}
	at, p := field.NewPath("status", "conditions"), field.NewPath("status", "certificate")
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied} {
		was, is := signingConditions(old, t), signingConditions(new, t)
		switch {
		case len(is) < len(was):
			f.forbidden(at, fmt.Sprintf("updates may not remove a condition of type %q", t))
		case len(is) > len(was):
			f.forbidden(at, fmt.Sprintf("updates may not add a condition of type %q", t))
		case !slices.Equal(is, was):
			f.forbidden(at, fmt.Sprintf("updates may not modify a condition of type %q", t))
		}
	}
	seen := unique{}
	for i, c := range new.Status.Conditions {
		f.need(at.Index(i).Child("type"), string(c.Type))
		seen.check(f, at.Index(i).Child("type"), string(c.Type))
	}
	if slices.Equal(new.Status.Certificate, old.Status.Certificate) {
		return f.list
	}
	if len(old.Status.Certificate) > 0 {
		f.forbidden(p, "updates may not modify existing certificate content")
	}
	if err := checkCertificates(new.Status.Certificate); err != nil {
		f.invalid(p, "<certificate data>", err.Error())
	}
	return f.list
}

func signingConditions(r *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) (list []certificatesv1.CertificateSigningRequestCondition) {
	for _, c := range r.Status.Conditions {
		if c.Type == t {
			list = append(list, c)
		}
	}
	return list
}

// checkCertificates: nothing but certificates, one at least.
func checkCertificates(raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	blocks := 0
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type != "CERTIFICATE":
			return fmt.Errorf("only CERTIFICATE PEM blocks are allowed, found %q", block.Type)
		case len(block.Headers) > 0:
			return errors.New("no PEM block headers are permitted")
		}
		list, err := x509.ParseCertificates(block.Bytes)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return errors.New("found CERTIFICATE PEM block containing 0 certificates")
		}
		blocks++
	}
	if blocks == 0 {
		return errors.New("must contain at least one CERTIFICATE PEM block")
	}
	return nil
}

// longestBundle bounds the roots that every node reads.
const longestBundle = 1 << 20

func validateTrustBundle(b *certificatesv1.ClusterTrustBundle) field.ErrorList {
	f := &faults{}
	name, signer := field.NewPath("metadata", "name"), b.Spec.SignerName
	prefix := strings.ReplaceAll(signer, "/", ":") + ":"
	switch rest, ok := strings.CutPrefix(b.Name, prefix); {
	case signer == "" && strings.Contains(b.Name, ":"):
		f.invalid(name, b.Name, "ClusterTrustBundle without signer name must not have \":\" in its name")
	case signer != "" && !ok:
		f.invalid(name, b.Name, fmt.Sprintf("ClusterTrustBundle for signerName %s must be named with prefix %s", signer, prefix))
	case signer != "":
		f.each(name, b.Name, validation.IsDNS1123Subdomain(rest))
	default:
		f.each(name, b.Name, validation.IsDNS1123Subdomain(b.Name))
	}
	if signer != "" {
		f.signerName(field.NewPath("spec", "signerName"), signer)
	}
	validateRoots(f, field.NewPath("spec", "trustBundle"), b.Spec.TrustBundle)
	return f.list
}

func validateRoots(f *faults, p *field.Path, bundle string) {
	if len(bundle) > longestBundle {
		f.add(field.TooLong(p, "", longestBundle))
		return
	}
	bad := func(format string, args ...any) { f.invalid(p, "<value omitted>", fmt.Sprintf(format, args...)) }
	seen := map[string][]int{}
	faulty := len(f.list)
	i := 0
	for block, rest := pem.Decode([]byte(bundle)); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		switch {
		case block.Type != "CERTIFICATE":
			bad("entry %d has bad block type: %v", i, block.Type)
		case len(block.Headers) > 0:
			bad("entry %d has PEM block headers", i)
		case err != nil:
			bad("entry %d does not parse as X.509", i)
		case !cert.IsCA:
			bad("entry %d does not have the CA bit set", i)
		case !cert.BasicConstraintsValid:
			bad("entry %d has invalid basic constraints", i)
		default:
			seen[string(block.Bytes)] = append(seen[string(block.Bytes)], i)
		}
		i++
	}
	if len(f.list) > faulty {
		return
	}
	if len(seen) == 0 {
		bad("at least one trust anchor must be provided")
	}
	for _, where := range seen {
		if len(where) > 1 {
			bad("duplicate trust anchor (indices %v)", where)
		}
	}
}

func validateTrustBundleUpdate(new, old *certificatesv1.ClusterTrustBundle) field.ErrorList {
	f := &faults{}
	f.immutable(field.NewPath("spec", "signerName"), new.Spec.SignerName, old.Spec.SignerName)
	return f.list
}

// Bounds of how long a pod's certificate may be asked for, in seconds: an hour to a day of Kubernetes' own signers, else
// to 91 days.
const (
	shortestPodCertificate = 3600
	longestOwnCertificate  = 86400
	longestPodCertificate  = 7862400
)

func validatePodCertificate(r *certificatesv1.PodCertificateRequest) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &r.Spec
	f.signerName(p.Child("signerName"), s.SignerName)
	f.each(p.Child("podName"), s.PodName, validation.IsDNS1123Subdomain(s.PodName))
	f.each(p.Child("serviceAccountName"), s.ServiceAccountName, validation.IsDNS1123Subdomain(s.ServiceAccountName))
	f.each(p.Child("nodeName"), s.NodeName, validation.IsDNS1123Subdomain(string(s.NodeName)))
	for _, c := range []struct {
		name string
		uid  types.UID
	}{{"podUID", s.PodUID}, {"serviceAccountUID", s.ServiceAccountUID}, {"nodeUID", s.NodeUID}} {
		if c.uid == "" {
			f.invalid(p.Child(c.name), c.uid, "must not be empty")
		}
		if len(c.uid) > 128 {
			f.add(field.TooLong(p.Child(c.name), c.uid, 128))
		}
	}
	most := int32(longestPodCertificate)
	if domain, _, _ := strings.Cut(s.SignerName, "/"); domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") {
		most = longestOwnCertificate
	}
	if n := s.MaxExpirationSeconds; n == nil {
		f.required(p.Child("maxExpirationSeconds"), "must be set")
	} else if *n < shortestPodCertificate || *n > most {
		f.invalid(p.Child("maxExpirationSeconds"), *n, fmt.Sprintf("must be in the range [%d, %d]", shortestPodCertificate, most))
	}
	if len(s.StubPKCS10Request) == 0 {
		f.required(p.Child("stubPKCS10Request"), "")
	} else if req, err := x509.ParseCertificateRequest(s.StubPKCS10Request); err != nil {
		f.invalid(p.Child("stubPKCS10Request"), field.OmitValueType{}, "must be a DER-serialized PKCS#10 CertificateRequest message")
	} else if err := req.CheckSignature(); err != nil {
		f.invalid(p.Child("stubPKCS10Request"), field.OmitValueType{}, "signature must verify against the public key in the request")
	}
	return f.list
}

func validatePodCertificateUpdate(new, old *certificatesv1.PodCertificateRequest) field.ErrorList {
	f := &faults{}
	f.immutable(field.NewPath("spec"), new.Spec, old.Spec)
	return f.list
}
