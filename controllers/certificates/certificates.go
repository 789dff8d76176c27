// SPDX-License-Identifier: Apache-2.0

// Package certificates answers certificate signing requests for the signers kubernetes.io/…: it approves what machines that
// join and kubelets ask for themselves, signs what is approved, and removes what is old.
//
//	pending ── kubelet's own, or by a bootstrap token ──> approved ──> signed ──> removed after an hour
//	   └──── nobody approves for a day ──> removed          └── not what the signer signs ──> failed
//
// It keeps no state. Decide is pure but for the signature, which the Signer in the state makes: the key is the API server's.
package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// Signer makes a certificate of a request that was checked.
type Signer interface {
	SignRequest(request *x509.CertificateRequest, usages []certificatesv1.KeyUsage, life time.Duration) ([]byte, error)
}

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Request *certificatesv1.CertificateSigningRequest
	Signer  Signer // nil: approve and clean only
	Now     time.Time
}

// How long requests stay, and certificates live where a request does not say: upstream's values.
const (
	keepSettled = time.Hour
	keepPending = 24 * time.Hour
	life        = 365 * 24 * time.Hour
	leastLife   = 10 * time.Minute
)

// Controller serves the requests.
func Controller(signer Signer) reconcile.Controller {
	observe := func(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
		r, ok := cache.Get[certificatesv1.CertificateSigningRequest](s, "", k.Name)
		return State{r, signer, now}, ok
	}
	return reconcile.Define("certificate-controller", []reconcile.Watch{reconcile.Objects[certificatesv1.CertificateSigningRequest]()}, observe, Decide)
}

// Decide says what to do next for one request.
func Decide(s State) reconcile.Plan {
	r := s.Request
	approved, denied, failed := has(r, certificatesv1.CertificateApproved), has(r, certificatesv1.CertificateDenied), has(r, certificatesv1.CertificateFailed)
	keep := keepPending
	if denied || failed || len(r.Status.Certificate) > 0 {
		keep = keepSettled
	}
	left := r.CreationTimestamp.Add(keep).Sub(s.Now)
	if left <= 0 {
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Delete{Object: r}}, Why: "the request is old"}
	}
	request, err := parse(r.Spec.Request)
	if !strings.HasPrefix(r.Spec.SignerName, "kubernetes.io/") || denied || failed || len(r.Status.Certificate) > 0 || err != nil && !approved {
		return reconcile.Plan{Again: left}
	}
	if !approved {
		if why := ownRequest(r, request); why != "" {
			next := r.DeepCopy()
			next.Status.Conditions = append(next.Status.Conditions, condition(certificatesv1.CertificateApproved, "AutoApproved", why, s.Now))
			return reconcile.Plan{Actions: []reconcile.Action{reconcile.Update{Object: next, Subresource: "approval"}}, Why: why}
		}
		return reconcile.Plan{Again: left}
	}
	if s.Signer == nil {
		return reconcile.Plan{Again: left}
	}
	next := r.DeepCopy()
	if err == nil {
		err = suits(r.Spec.SignerName, request, r.Spec.Usages)
	}
	if err == nil {
		next.Status.Certificate, err = s.Signer.SignRequest(request, r.Spec.Usages, lifeOf(r))
	}
	if err != nil {
		next.Status.Conditions = append(next.Status.Conditions, condition(certificatesv1.CertificateFailed, "SignerValidationFailure", err.Error(), s.Now))
	}
	return reconcile.Plan{Status: next, Why: "the request is approved"}
}

func has(r *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) bool {
	return slices.ContainsFunc(r.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool { return c.Type == t })
}

func condition(t certificatesv1.RequestConditionType, reason, message string, now time.Time) certificatesv1.CertificateSigningRequestCondition {
	at := metav1.NewTime(now).Rfc3339Copy()
	return certificatesv1.CertificateSigningRequestCondition{
		Type: t, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastUpdateTime: at, LastTransitionTime: at,
	}
}

func lifeOf(r *certificatesv1.CertificateSigningRequest) time.Duration {
	if s := r.Spec.ExpirationSeconds; s != nil {
		return min(max(time.Duration(*s)*time.Second, leastLife), life)
	}
	return life
}

func parse(data []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, fmt.Errorf("spec.request holds no PEM certificate request")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read spec.request: %w", err)
	}
	return r, r.CheckSignature()
}

const (
	nodes      = "system:nodes"
	nodePrefix = "system:node:"
)

// ownRequest says why a request needs nobody's approval: a kubelet renews its own client certificate, or a machine that has
// a bootstrap token asks for its first. "" when somebody must look at it.
func ownRequest(r *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest) string {
	if r.Spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName || suits(r.Spec.SignerName, x, r.Spec.Usages) != nil {
		return ""
	}
	switch {
	case slices.Contains(r.Spec.Groups, "system:bootstrappers"):
		return "a machine with a bootstrap token asks for its node's first certificate"
	case slices.Contains(r.Spec.Groups, nodes) && r.Spec.Username == x.Subject.CommonName:
		return "a kubelet renews its own certificate"
	}
	return ""
}

// suits checks that a request is what its signer signs; the rules are upstream's.
func suits(signer string, x *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	only := func(need certificatesv1.KeyUsage) error {
		if !slices.Contains(usages, need) {
			return fmt.Errorf("usages did not contain %q", need)
		}
		for _, u := range usages {
			if u != need && u != certificatesv1.UsageDigitalSignature && u != certificatesv1.UsageKeyEncipherment {
				return fmt.Errorf("usages did not match; %q is not one that the signer signs", u)
			}
		}
		return nil
	}
	switch signer {
	case certificatesv1.KubeAPIServerClientSignerName:
		return only(certificatesv1.UsageClientAuth)
	case certificatesv1.KubeAPIServerClientKubeletSignerName:
		if len(x.DNSNames)+len(x.IPAddresses)+len(x.EmailAddresses)+len(x.URIs) > 0 {
			return fmt.Errorf("subject alternative names are not allowed")
		}
		if err := ofNode(x); err != nil {
			return err
		}
		return only(certificatesv1.UsageClientAuth)
	case certificatesv1.KubeletServingSignerName:
		if len(x.DNSNames)+len(x.IPAddresses) == 0 {
			return fmt.Errorf("at least one DNS or IP subjectAltName is required")
		}
		if len(x.EmailAddresses)+len(x.URIs) > 0 {
			return fmt.Errorf("email and URI subjectAltNames are not allowed")
		}
		if err := ofNode(x); err != nil {
			return err
		}
		return only(certificatesv1.UsageServerAuth)
	case "kubernetes.io/legacy-unknown":
		return nil
	}
	return fmt.Errorf("signer %q is not known", signer)
}

func ofNode(x *x509.CertificateRequest) error {
	if !slices.Equal(x.Subject.Organization, []string{nodes}) {
		return fmt.Errorf("subject organization is not %s", nodes)
	}
	if !strings.HasPrefix(x.Subject.CommonName, nodePrefix) || len(x.Subject.CommonName) == len(nodePrefix) {
		return fmt.Errorf("subject common name does not begin with %s", nodePrefix)
	}
	return nil
}
