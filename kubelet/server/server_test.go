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
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/kubelet/podruntime"
	"github.com/knarr/knarr/state/client"
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

func issue(t *testing.T, cn string, by *authority, groups ...string) (tls.Certificate, *authority) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn, Organization: groups}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
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

// reviews is the API server as the kubelet asks it: it knows the tokens "scraper" and "viewer", and rules on nodes/….
type reviews struct {
	mu    sync.Mutex
	asked int
}

func (d *reviews) Do(_ context.Context, r client.Request) (kinds.Object, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	switch o := r.Object.(type) {
	case *authenticationv1.TokenReview:
		if o.Spec.Token == "scraper" || o.Spec.Token == "viewer" {
			o.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: o.Spec.Token}}
		}
		return o, nil
	case *authorizationv1.SubjectAccessReview:
		a := o.Spec.ResourceAttributes
		if o.Spec.User == "broken" {
			return nil, errs.New(errs.Unavailable, "no API server")
		}
		o.Status.Allowed = a.Name == "n" && a.Resource == "nodes" && a.Verb == "get" &&
			(o.Spec.User == "scraper" && (a.Subresource == "metrics" || a.Subresource == "stats") || o.Spec.User == "viewer")
		return o, nil
	}
	return nil, errs.New(errs.Invalid, "asked for %T", r.Object)
}

// k8s#38784: nobody gets anything without credentials, on any path; k8s#78741: GET is not enough to run something.
func TestEveryPathIsGuarded(t *testing.T) {
	api := &reviews{}
	access := &Access{Node: "n", Do: api, Log: slog.New(slog.DiscardHandler)}
	h := access.Guard(New(Config{NodeLogs: t.TempDir()}, noPods{}, nil, slog.New(slog.DiscardHandler)))
	_, ca := issue(t, "ca", nil)
	good, _ := issue(t, "kube-apiserver-kubelet-client", ca, masters)
	other, _ := issue(t, "somebody", ca)
	broken, _ := issue(t, "broken", ca)
	forged, _ := issue(t, "kube-apiserver-kubelet-client", nil, masters)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}
	srv.StartTLS()
	defer srv.Close()
	get := func(path, token string, certs ...tls.Certificate) int {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certs}, DisableKeepAlives: true}}
		req, err := http.NewRequest(http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := c.Do(req)
		if err != nil {
			return 0 // refused in the handshake
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	acting := []string{"/exec/a/b/c?command=x&output=1", "/attach/a/b/c", "/portForward/a/b", "/run/a/b/c"}
	reading := []string{"/healthz", "/pods", "/containerLogs/a/b/c", "/", "/none", "/configz", "/runningpods/", "/logs/", "/debug/pprof/cmdline"}
	measuring := []string{"/stats/summary", "/metrics/resource", "/metrics", "/metrics/cadvisor", "/metrics/probes"}
	passed := func(code int) bool {
		return code != 0 && code != http.StatusUnauthorized && code != http.StatusForbidden
	}
	for _, path := range slices.Concat(acting, reading, measuring) {
		if code := get(path, ""); code != http.StatusUnauthorized {
			t.Errorf("%s without credentials: %d", path, code)
		}
		if code := get(path, "unknown"); code != http.StatusUnauthorized {
			t.Errorf("%s with an unknown token: %d", path, code)
		}
		if code := get(path, "", other); code != http.StatusForbidden {
			t.Errorf("%s with somebody's certificate: %d", path, code)
		}
		if code := get(path, "", broken); code != http.StatusInternalServerError {
			t.Errorf("%s when the API server does not answer: %d", path, code)
		}
		if code := get(path, "", forged); code != 0 && code != http.StatusUnauthorized {
			t.Errorf("%s with a forged certificate: %d", path, code)
		}
		if code := get(path, "", good); !passed(code) {
			t.Errorf("%s with the API server's certificate: %d", path, code)
		}
		if code := get(path, "scraper"); passed(code) != slices.Contains(measuring, path) {
			t.Errorf("%s of who may get nodes/metrics and nodes/stats: %d", path, code)
		}
		if code := get(path, "viewer"); passed(code) == slices.Contains(acting, path) {
			t.Errorf("%s of who may get all of a node, and create nothing: %d", path, code)
		}
	}
	for _, path := range []string{"/metrics/../exec/a/b/c", "/metrics/%2e%2e/exec/a/b/c", "/metrics/..%2fexec/a/b/c"} {
		if code := get(path, "scraper"); passed(code) && code != http.StatusBadRequest {
			t.Errorf("%s: %d", path, code)
		}
	}
	asked := api.asked
	for range 3 {
		get("/metrics", "scraper")
		get("/exec/a/b/c", "scraper")
	}
	if api.asked != asked {
		t.Errorf("%d more questions for what was answered already", api.asked-asked)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
	if w.Code != http.StatusUnauthorized {
		t.Errorf("without TLS: %d", w.Code)
	}
}

func TestDebuggingOff(t *testing.T) {
	h := New(Config{NoDebugging: true}, noPods{}, nil, slog.New(slog.DiscardHandler))
	for path, want := range map[string]int{"/exec/a/b/c": 405, "/containerLogs/a/b/c": 405, "/logs/": 405, "/configz": 405, "/debug/pprof/": 405, "/pods": 200, "/metrics": 200, "/healthz": 200} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}

func TestNodeLogsStayInTheirFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/a.log", []byte("line"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", dir+"/out"); err != nil {
		t.Fatal(err)
	}
	h := New(Config{NodeLogs: dir}, noPods{}, nil, slog.New(slog.DiscardHandler))
	for path, want := range map[string]string{"/logs/a.log": "line", "/logs/out": "", "/logs/": "a.log"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if got := w.Body.String(); want == "" && w.Code == 200 || !strings.Contains(got, want) {
			t.Errorf("%s: %d %s", path, w.Code, got)
		}
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
