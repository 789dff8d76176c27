// SPDX-License-Identifier: Apache-2.0

// Package webhook asks servers outside of the cluster's own parts: one JSON document is posted, one comes back.
//
// Admission, authentication and authorization webhooks all go through Client. A server's answer is a stranger's word:
// redirects are not followed, bodies are bounded, credentials are sent only where the configuration says, and a certificate
// must be that of the name asked for. An address on the local link (169.254.0.0/16, where clouds keep their secrets) is
// never dialled.
//
// Client keeps one transport for each server it was asked to reach, up to a bound; no goroutines of its own, no files.
package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/knarr/knarr/internal/errs"
)

// Bounds of what a server may cost us.
const (
	maxAnswer     = 4 << 20
	maxTransports = 256
	dialWithin    = 10 * time.Second
)

// Target is one server: a URL, or a Service of the cluster.
type Target struct {
	URL       string // https://…; "" for a Service
	Namespace string
	Service   string
	Port      int32 // of the Service; 0: 443
	Path      string
	CA        []byte // PEM; empty: the system's
	// Within is told to the server as the query parameter timeout, so that it need not work for nobody; 0: not told. The
	// caller's context is what bounds the call.
	Within time.Duration

	Token       string           // bearer token, "" for none
	Certificate *tls.Certificate // what we show
	ServerName  string           // overrides the name the server must have
	Insecure    bool             // do not verify the server, as a kubeconfig may say
}

// Client posts to webhooks. Make it with New.
type Client struct {
	resolve func(namespace, service string, port int32) (hostPort string, err error)

	mu         sync.Mutex // guards transports
	transports map[[sha256.Size]byte]*http.Transport
}

// New makes a client. resolve finds where a Service's port is served; nil: Services are not reachable.
func New(resolve func(namespace, service string, port int32) (string, error)) *Client {
	return &Client{resolve: resolve, transports: map[[sha256.Size]byte]*http.Transport{}}
}

// Post sends in as JSON and reads the answer into out. Only status 200 is an answer. The context bounds all of it.
func (c *Client) Post(ctx context.Context, t Target, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	u, dial, err := c.place(t)
	if err != nil {
		return err
	}
	transport, err := c.transport(t, u, dial)
	if err != nil {
		return err
	}
	if t.Within > 0 {
		q := u.Query()
		q.Set("timeout", t.Within.String())
		u.RawQuery = q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return errs.New(errs.Invalid, "webhook URL: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "knarr")
	if t.Token != "" {
		req.Header.Set("Authorization", "Bearer "+t.Token)
	}
	hc := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := hc.Do(req)
	if err != nil {
		return errs.New(errs.Unavailable, "%w", err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return errs.New(errs.Unavailable, "read the answer: %w", err)
	}
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		return errs.New(errs.Unavailable, "the server answered with a redirect (%d), which is never followed", res.StatusCode)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return errs.New(errs.Unavailable, "the server answered %d: %s", res.StatusCode, strings.TrimSpace(string(data[:min(len(data), 512)])))
	}
	if len(data) > maxAnswer {
		return errs.New(errs.TooLarge, "the answer is larger than %d bytes", maxAnswer)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return errs.New(errs.Unavailable, "read the answer: %w", err)
	}
	return nil
}

// place is the URL of a target, and where to connect to when that is another place than the URL says.
func (c *Client) place(t Target) (u *url.URL, dial string, err error) {
	if t.URL != "" {
		u, err := url.Parse(t.URL)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return nil, "", errs.New(errs.Invalid, "webhook URL %q is not of the form https://host/path", t.URL)
		}
		return u, "", nil
	}
	if c.resolve == nil || t.Service == "" {
		return nil, "", errs.New(errs.Unavailable, "the webhook has neither a URL nor a Service that can be reached")
	}
	port := t.Port
	if port == 0 {
		port = 443
	}
	if dial, err = c.resolve(t.Namespace, t.Service, port); err != nil {
		return nil, "", fmt.Errorf("service %s/%s: %w", t.Namespace, t.Service, err)
	}
	host := t.Service + "." + t.Namespace + ".svc"
	u = &url.URL{Scheme: "https", Host: net.JoinHostPort(host, strconv.Itoa(int(port)))}
	u.Path = "/" + strings.TrimPrefix(t.Path, "/")
	if i := strings.IndexByte(u.Path, '?'); i >= 0 {
		u.Path, u.RawQuery = u.Path[:i], u.Path[i+1:]
	}
	return u, dial, nil
}

// transport is the connection pool for a server: never shared between two configurations.
func (c *Client) transport(t Target, u *url.URL, dial string) (*http.Transport, error) {
	h := sha256.New()
	for _, part := range []string{u.Scheme, u.Host, dial, t.ServerName, string(t.CA), strconv.FormatBool(t.Insecure)} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	if t.Certificate != nil {
		for _, der := range t.Certificate.Certificate {
			h.Write(der)
		}
	}
	key := [sha256.Size]byte(h.Sum(nil))
	c.mu.Lock()
	defer c.mu.Unlock()
	if tr, ok := c.transports[key]; ok {
		return tr, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.Insecure} //nolint:gosec // a kubeconfig may ask for it
	if len(t.CA) > 0 {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(t.CA) {
			return nil, errs.New(errs.Invalid, "the webhook's caBundle holds no certificate")
		}
	}
	if t.Certificate != nil {
		cfg.Certificates = []tls.Certificate{*t.Certificate}
	}
	if len(c.transports) >= maxTransports {
		for k, tr := range c.transports {
			tr.CloseIdleConnections()
			delete(c.transports, k)
		}
	}
	tr := &http.Transport{
		TLSClientConfig: cfg, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dial != "" {
				addr = dial
			}
			d := net.Dialer{Timeout: dialWithin, Control: notLinkLocal}
			return d.DialContext(ctx, network, addr)
		},
	}
	c.transports[key] = tr
	return tr, nil
}

// notLinkLocal checks the address where it cannot change any more: at the socket.
func notLinkLocal(_, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	a, err := netip.ParseAddr(host)
	if err != nil || a.Unmap().IsLinkLocalUnicast() || a.Unmap().IsMulticast() {
		return errs.New(errs.Denied, "webhooks are not called on the address %s", host)
	}
	return nil
}
