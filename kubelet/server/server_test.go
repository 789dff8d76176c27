// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/podruntime"
)

type noPods struct{}

func (noPods) Pods() []*corev1.Pod { return nil }
func (noPods) Container(context.Context, string, string, string, bool) (podruntime.Container, error) {
	return podruntime.Container{}, errs.New(errs.NotFound, "no such pod")
}
func (noPods) Sandbox(context.Context, string, string) (string, error) {
	return "", errs.New(errs.NotFound, "no such pod")
}
func (noPods) Usage(context.Context) Usage { return Usage{} }

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func issue(t *testing.T, cn string, by *authority) (tls.Certificate, *authority) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: by == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	me := &authority{tmpl, key}
	if by == nil {
		by = me
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	me.cert, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, me
}

// k8s#38784: nobody gets anything without the API server's certificate, on any path.
func TestEveryPathNeedsTheClientCertificate(t *testing.T) {
	h := RequireClient(New(Config{}, noPods{}, nil, slog.New(slog.DiscardHandler)), "kube-apiserver-kubelet-client")
	_, ca := issue(t, "ca", nil)
	good, _ := issue(t, "kube-apiserver-kubelet-client", ca)
	other, _ := issue(t, "somebody", ca)
	forged, _ := issue(t, "kube-apiserver-kubelet-client", nil)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}
	srv.StartTLS()
	defer srv.Close()
	get := func(path string, certs ...tls.Certificate) int {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certs}, DisableKeepAlives: true}}
		resp, err := c.Get(srv.URL + path)
		if err != nil {
			return 0 // refused in the handshake
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, path := range []string{"/healthz", "/pods", "/exec/a/b/c?command=x&output=1", "/attach/a/b/c", "/portForward/a/b", "/containerLogs/a/b/c", "/stats/summary", "/metrics/resource", "/", "/run/a/b/c", "/none"} {
		if code := get(path); code != http.StatusUnauthorized {
			t.Errorf("%s without a certificate: %d", path, code)
		}
		if code := get(path, other); code != http.StatusForbidden {
			t.Errorf("%s with somebody's certificate: %d", path, code)
		}
		if code := get(path, forged); code != 0 && code != http.StatusUnauthorized {
			t.Errorf("%s with a forged certificate: %d", path, code)
		}
		if code := get(path, good); code == 0 || code == http.StatusUnauthorized || code == http.StatusForbidden {
			t.Errorf("%s with the API server's certificate: %d", path, code)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
	if w.Code != http.StatusUnauthorized {
		t.Errorf("without TLS: %d", w.Code)
	}
}

func TestEveryKindOfErrorHasAStatus(t *testing.T) {
	for _, kind := range errs.All {
		if statusOf(errs.New(kind, "x")) == http.StatusInternalServerError {
			t.Errorf("%v has none", kind)
		}
	}
}

func TestRates(t *testing.T) {
	var r rates
	t0 := time.Unix(1000, 0)
	if r.of("a", t0, 100) != nil {
		t.Error("a rate from one reading")
	}
	if got := r.of("a", t0.Add(2*time.Second), 2e9+100); got == nil || *got != 1e9 {
		t.Errorf("%v", got)
	}
	if got := r.of("a", t0.Add(2500*time.Millisecond), 9e9); got == nil || *got != 1e9 {
		t.Errorf("too close: %v", got)
	}
	if got := r.of("a", t0.Add(5*time.Second), 5); got == nil || *got != 1e9 {
		t.Errorf("a counter that went back: %v", got)
	}
}
