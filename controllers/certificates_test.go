// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

func TestACertificateIsApprovedAndSigned(t *testing.T) {
	p := start(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "ann", Organization: []string{"dev"}}}, key)
	if err != nil {
		t.Fatal(err)
	}
	typ := kinds.For[certificatesv1.CertificateSigningRequest]()
	obj, err := p.Admin.Do(t.Context(), client.Request{Verb: client.Create, Type: typ, Object: &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "ann"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: certificatesv1.KubeAPIServerClientSignerName, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
			Username: "a lie",
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	csr := obj.DeepCopyObject().(*certificatesv1.CertificateSigningRequest)
	if csr.Spec.Username != auth.Admin().Name {
		t.Errorf("it says that %q asks", csr.Spec.Username)
	}
	csr.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Known"}}
	if _, err := p.Admin.Do(t.Context(), client.Request{Verb: client.Update, Type: typ, Name: "ann", Subresource: "approval", Object: csr}); err != nil {
		t.Fatal(err)
	}
	var signed []byte
	p.until("the certificate", func(s *cache.Snapshot) bool {
		r, ok := cache.Get[certificatesv1.CertificateSigningRequest](s, "", "ann")
		if ok {
			signed = r.Status.Certificate
		}
		return len(signed) > 0
	})
	block, _ := pem.Decode(signed)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: p.Auth().Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil || cert.Subject.CommonName != "ann" || cert.IsCA {
		t.Errorf("%v %+v", err, cert.Subject)
	}
}
