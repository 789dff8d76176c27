// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/apiserver"
	"github.com/knarr/knarr/apiserver/apiservertest"
	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/state/client"
)

// request is a certificate request that asks for more than it may have.
func request(t *testing.T) (csr []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "admin", Organization: []string{auth.Masters}}, DNSNames: []string{"kubernetes"},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), key
}

// dial makes a client with a token or a certificate.
func dial(s *apiservertest.Server, cert *tls.Certificate) *http.Client {
	cfg := &tls.Config{RootCAs: s.Auth().Pool()}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}
}

func send(t *testing.T, c *http.Client, method, url, token string, body any) (int, []byte) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, out
}

func TestJoin(t *testing.T) {
	s := apiservertest.New(t)
	token, err := s.Auth().JoinToken()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := s.Auth().JoinToken(); again != token {
		t.Error("the token changes from one call to the next")
	}
	code, ca := send(t, dial(s, nil), "GET", s.URL+apiserver.PathCA, "", nil)
	print, ok := auth.SplitJoinToken(token)
	if code != 200 || !ok || auth.Fingerprint(ca) != print {
		t.Fatalf("the CA: %d, fingerprint %s of %q, want %s", code, auth.Fingerprint(ca), ca, print)
	}
	csr, key := request(t)
	ask := apiserver.JoinRequest{Node: "one", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.7")}, Client: csr, Server: csr}
	join := func(c *http.Client, token string, ask apiserver.JoinRequest) (int, string) {
		code, b := send(t, c, "POST", s.URL+apiserver.PathJoin, token, ask)
		return code, string(b)
	}
	code, body := join(dial(s, nil), token, ask)
	if code != 200 {
		t.Fatalf("join: %d %s", code, body)
	}
	var got apiserver.JoinResponse
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	leaf := func(p []byte) *x509.Certificate {
		block, _ := pem.Decode(p)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	mine, serving := leaf(got.Client), leaf(got.Server)
	if mine.Subject.CommonName != "system:node:one" || strings.Join(mine.Subject.Organization, " ") != auth.Nodes {
		t.Errorf("the client is %s: the request's own words must not count", mine.Subject)
	}
	if serving.VerifyHostname("10.0.0.7") != nil || serving.VerifyHostname("kubernetes") == nil {
		t.Errorf("the server's certificate is for %v %v", serving.DNSNames, serving.IPAddresses)
	}
	cert := &tls.Certificate{Certificate: [][]byte{mine.Raw}, PrivateKey: key, Leaf: mine}

	ready := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "alive"}}
	nodes := client.For[corev1.Node](s.Admin, "test")
	if ready, err = nodes.Create(t.Context(), ready); err != nil {
		t.Fatal(err)
	}
	c := ready.DeepCopy()
	c.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if _, err := nodes.UpdateStatus(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	with := func(change func(*apiserver.JoinRequest)) apiserver.JoinRequest {
		r := ask
		change(&r)
		return r
	}
	for _, x := range []struct {
		rule   string
		client *http.Client
		token  string
		ask    apiserver.JoinRequest
		code   int
		says   string
	}{
		{"renewed by itself", dial(s, cert), "", ask, 200, ""},
		{"a node asks for another", dial(s, cert), "", with(func(r *apiserver.JoinRequest) { r.Node = "two" }), 403, "its own certificates only"},
		{"nobody", dial(s, nil), "", ask, 403, "cannot post path"},
		{"a wrong secret", dial(s, nil), token + "x", ask, 401, "Unauthorized"},
		{"a node that lives", dial(s, nil), token, with(func(r *apiserver.JoinRequest) { r.Node = "alive" }), 409, "--node-name"},
		{"no name", dial(s, nil), token, with(func(r *apiserver.JoinRequest) { r.Node = "A/../b" }), 400, "node name"},
		{"no address", dial(s, nil), token, with(func(r *apiserver.JoinRequest) { r.Addresses = nil }), 400, "addresses"},
		{"loopback", dial(s, nil), token, with(func(r *apiserver.JoinRequest) { r.Addresses = []netip.Addr{netip.MustParseAddr("127.0.0.1")} }), 400, "127.0.0.1"},
		{"no request", dial(s, nil), token, with(func(r *apiserver.JoinRequest) { r.Client = []byte("x") }), 400, "certificate request"},
	} {
		code, body := join(x.client, x.token, x.ask)
		if code != x.code || !strings.Contains(body, x.says) {
			t.Errorf("%s: %d %s, want %d and %q", x.rule, code, body, x.code, x.says)
		}
	}
	if code, body := send(t, dial(s, nil), "GET", s.URL+"/api/v1/nodes", token, nil); code != 403 {
		t.Errorf("the join token lists nodes: %d %s", code, body)
	}
}
