// SPDX-License-Identifier: Apache-2.0

package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/state/reconcile"
)

type signs struct{}

func (signs) SignRequest(*x509.CertificateRequest, []certificatesv1.KeyUsage, time.Duration) ([]byte, error) {
	return []byte("signed"), nil
}

func csr(t *testing.T, signer, cn string, orgs []string, edit ...func(*certificatesv1.CertificateSigningRequest, *x509.CertificateRequest)) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "r", CreationTimestamp: metav1.NewTime(time.Unix(1000, 0))}}
	r.Spec.SignerName, r.Spec.Usages = signer, []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature}
	x := &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn, Organization: orgs}}
	for _, e := range edit {
		e(r, x)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, x, key)
	if err != nil {
		t.Fatal(err)
	}
	r.Spec.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return r
}

func TestDecide(t *testing.T) {
	type edit = func(*certificatesv1.CertificateSigningRequest, *x509.CertificateRequest)
	by := func(user string, groups ...string) edit {
		return func(r *certificatesv1.CertificateSigningRequest, _ *x509.CertificateRequest) {
			r.Spec.Username, r.Spec.Groups = user, groups
		}
	}
	is := func(what certificatesv1.RequestConditionType) edit {
		return func(r *certificatesv1.CertificateSigningRequest, _ *x509.CertificateRequest) {
			r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: what})
		}
	}
	serving := func(r *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest) {
		r.Spec.Usages[0] = certificatesv1.UsageServerAuth
		x.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)}
	}
	kubelet, node := certificatesv1.KubeAPIServerClientKubeletSignerName, []string{"system:nodes"}
	const approve, sign, fail, remove, nothing = "approve", "sign", "fail", "remove", ""
	for _, x := range []struct {
		rule  string
		r     *certificatesv1.CertificateSigningRequest
		after time.Duration
		want  string
	}{
		{"a bootstrap token, for a node", csr(t, kubelet, "system:node:a", node, by("system:bootstrap:x", "system:bootstrappers")), 0, approve},
		{"a kubelet, for itself", csr(t, kubelet, "system:node:a", node, by("system:node:a", "system:nodes")), 0, approve},
		{"a kubelet, for another", csr(t, kubelet, "system:node:b", node, by("system:node:a", "system:nodes")), 0, nothing},
		{"somebody", csr(t, kubelet, "system:node:a", node, by("ann", "dev")), 0, nothing},
		{"a bootstrap token, for more than a node", csr(t, kubelet, "system:node:a", []string{"system:nodes", "system:masters"}, by("x", "system:bootstrappers")), 0, nothing},
		{"a serving certificate waits for somebody", csr(t, certificatesv1.KubeletServingSignerName, "system:node:a", node, by("system:node:a", "system:nodes"), serving), 0, nothing},
		{"approved", csr(t, certificatesv1.KubeAPIServerClientSignerName, "ann", nil, is(certificatesv1.CertificateApproved)), 0, sign},
		{"approved, for a server", csr(t, certificatesv1.KubeletServingSignerName, "system:node:a", node, serving, is(certificatesv1.CertificateApproved)), 0, sign},
		{"approved, and not what the signer signs", csr(t, kubelet, "ann", node, is(certificatesv1.CertificateApproved)), 0, fail},
		{"denied", csr(t, kubelet, "system:node:a", node, is(certificatesv1.CertificateDenied), by("x", "system:bootstrappers")), 0, nothing},
		{"another's signer", csr(t, "example.com/x", "ann", nil, is(certificatesv1.CertificateApproved)), 0, nothing},
		{"denied long ago", csr(t, kubelet, "ann", nil, is(certificatesv1.CertificateDenied)), 2 * time.Hour, remove},
		{"nobody looked at it", csr(t, "example.com/x", "ann", nil), 25 * time.Hour, remove},
	} {
		plan := Decide(State{x.r, signs{}, time.Unix(1000, 0).Add(x.after)})
		got := nothing
		for _, a := range plan.Actions {
			switch a := a.(type) {
			case reconcile.Delete:
				got = remove
			case reconcile.Update:
				if got = approve; a.Subresource != "approval" {
					t.Errorf("%s: writes %q", x.rule, a.Subresource)
				}
			}
		}
		if st, ok := plan.Status.(*certificatesv1.CertificateSigningRequest); ok && st != nil {
			got = sign
			if string(st.Status.Certificate) != "signed" {
				got = fail
			}
		}
		if got != x.want {
			t.Errorf("%s: %q, want %q (%s)", x.rule, got, x.want, strings.TrimSpace(plan.Why))
		}
	}
}
