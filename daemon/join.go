// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/knarr/knarr/apiserver"
	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/backoff"
	"github.com/knarr/knarr/internal/errs"
)

// membership is this machine's place in a cluster: its certificates, and what the cluster told it. It is kept in
// <data-dir>/membership.json (0600), so that a restart needs neither the token nor the server.
type membership struct {
	path   string
	server string
	node   string
	ip     netip.Addr
	log    *slog.Logger
	now    atomic.Pointer[member]
}

// member is what the file holds.
type member struct {
	Node   string                 `json:"node"`
	Joined apiserver.JoinResponse `json:"joined"`
	Keys   struct {
		Client []byte `json:"client"` // PEM
		Server []byte `json:"server"` // PEM
	} `json:"keys"`

	client, serving *tls.Certificate
}

// joinWithin bounds one try to join; how often is the server asked while it is away is joinPause.
const joinWithin = 30 * time.Second

// openMembership reads what was kept, or joins with cfg.Token. A server that cannot be reached is tried until ctx ends.
func openMembership(ctx context.Context, cfg Config, tell notifier, log *slog.Logger) (*membership, error) {
	m := &membership{path: filepath.Join(cfg.DataDir, "membership.json"), server: strings.TrimSuffix(cfg.Server, "/"), node: cfg.NodeName, ip: cfg.NodeIP, log: log}
	kept, err := m.read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s (remove it to join anew): %w", m.path, err)
	}
	if err == nil && kept.Node != cfg.NodeName {
		return nil, errs.New(errs.Conflict, "this machine joined as %s, not %s; say --node-name %s, or remove %s to join anew", kept.Node, cfg.NodeName, kept.Node, m.path)
	}
	if err == nil && time.Now().Before(kept.client.Leaf.NotAfter) {
		m.now.Store(kept)
		return m, nil
	}
	tell.status("joining %s", m.server)
	pause := backoff.Pause{First: 100 * time.Millisecond, Max: 5 * time.Second}
	for {
		err := m.join(ctx, cfg.Token)
		if err == nil {
			return m, nil
		}
		if !errors.Is(err, errs.Unavailable) {
			return nil, fmt.Errorf("join %s: %w", m.server, err)
		}
		tell.status("waiting for %s: %v", m.server, err)
		if pause.Wait(ctx) != nil {
			return nil, fmt.Errorf("join %s: %w", m.server, err)
		}
	}
}

func (m *membership) read() (*member, error) {
	data, err := os.ReadFile(m.path)
	if err != nil {
		return nil, err
	}
	var out member
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, err
	}
	return &out, out.parse()
}

func (x *member) parse() (err error) {
	if x.client, err = (auth.Pair{Cert: x.Joined.Client, Key: x.Keys.Client}).TLS(); err != nil {
		return fmt.Errorf("the node's client certificate: %w", err)
	}
	if x.serving, err = (auth.Pair{Cert: x.Joined.Server, Key: x.Keys.Server}).TLS(); err != nil {
		return fmt.Errorf("the kubelet's serving certificate: %w", err)
	}
	return nil
}

// join shows the token, to nobody but the server whose CA it names.
func (m *membership) join(ctx context.Context, token string) error {
	print, ok := auth.SplitJoinToken(token)
	if !ok {
		return errs.New(errs.Invalid, "--token: want what `knarr token` prints on the server (knarr.FINGERPRINT.SECRET)")
	}
	ca, err := m.fetchCA(ctx, print)
	if err != nil {
		return err
	}
	return m.ask(ctx, ca, nil, token)
}

// fetchCA trusts nothing of the connection: the fingerprint says whether it is the right certificate.
func (m *membership) fetchCA(ctx context.Context, print string) ([]byte, error) {
	c := httpClient(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	ca, err := call(ctx, c, http.MethodGet, m.server+apiserver.PathCA, "", nil)
	if err != nil {
		return nil, err
	}
	if got := auth.Fingerprint(ca); got != print {
		return nil, errs.New(errs.Denied, "%s is not the server of this token: its CA has the fingerprint %s, the token names %s", m.server, got, print)
	}
	return ca, nil
}

// ask has new keys certified, by the token or the present certificate, and keeps all of it.
func (m *membership) ask(ctx context.Context, ca []byte, present *tls.Certificate, token string) error {
	next := &member{Node: m.node}
	req := apiserver.JoinRequest{Node: m.node, Addresses: []netip.Addr{m.ip}}
	var err error
	if next.Keys.Client, req.Client, err = keyAndRequest(); err != nil {
		return err
	}
	if next.Keys.Server, req.Server, err = keyAndRequest(); err != nil {
		return err
	}
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	cfg, err := trust(ca)
	if err != nil {
		return err
	}
	if present != nil {
		cfg.Certificates = []tls.Certificate{*present}
	}
	answer, err := call(ctx, httpClient(cfg), http.MethodPost, m.server+apiserver.PathJoin, token, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, &next.Joined); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	if err := next.parse(); err != nil {
		return err
	}
	data, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(m.path, data, 0o600); err != nil {
		return err
	}
	m.now.Store(next)
	return nil
}

// run renews the certificates when a third of their life is left, while they are in use.
func (m *membership) run(ctx context.Context) error {
	pause := backoff.Pause{First: time.Minute, Max: time.Hour}
	for {
		now := m.now.Load()
		leaf := now.client.Leaf
		timer := time.NewTimer(time.Until(leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / 3)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if err := m.ask(ctx, now.Joined.CA, now.client, ""); err != nil {
			m.log.Warn("renew the node's certificates; trying again", "until", leaf.NotAfter, "err", err)
			if pause.Wait(ctx) != nil {
				return nil
			}
			continue
		}
		pause.Reset()
		m.log.Info("the node's certificates are renewed", "until", m.now.Load().client.Leaf.NotAfter)
	}
}

// clientTLS shows the newest client certificate.
func (m *membership) clientTLS() (*tls.Config, error) {
	cfg, err := trust(m.now.Load().Joined.CA)
	if err != nil {
		return nil, err
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.now.Load().client, nil }
	return cfg, nil
}

func trust(ca []byte) (*tls.Config, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errs.New(errs.Invalid, "the server's CA is no PEM certificate")
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

func keyAndRequest() (key, request []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}), nil
}

// httpClient makes one connection and follows no redirect: a token goes where it was meant to.
func httpClient(cfg *tls.Config) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// maxAnswer bounds what a server can make us read.
const maxAnswer = 1 << 20

func call(ctx context.Context, c *http.Client, method, url, token string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, errs.New(errs.Invalid, "--server: %w", err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.Do(r)
	if err != nil {
		if v := (*tls.CertificateVerificationError)(nil); errors.As(err, &v) {
			return nil, errs.New(errs.Denied, "%w", err)
		}
		return nil, errs.New(errs.Unavailable, "%w", err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, errs.New(errs.Unavailable, "%w", err)
	}
	switch {
	case res.StatusCode == http.StatusOK:
		return answer, nil
	case res.StatusCode == http.StatusUnauthorized:
		return nil, errs.New(errs.Unauthentic, "the server refuses the token; `knarr token` on it prints the right one")
	case res.StatusCode >= http.StatusInternalServerError || res.StatusCode == http.StatusTooManyRequests:
		return nil, errs.New(errs.Unavailable, "%s: %s", res.Status, answer)
	}
	var status struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(answer, &status) == nil && status.Message != "" {
		return nil, errs.New(errs.Denied, "%s", status.Message)
	}
	return nil, errs.New(errs.Denied, "%s: %s", res.Status, answer)
}
