// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"strconv"
	"time"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/knarr/knarr/internal/errs"
)

// reach is how to connect to one server; it lasts as long as its APIService says the same.
type reach struct {
	spec   apiregistrationv1.APIServiceSpec
	host   string          // NAME.NAMESPACE.svc:PORT, as its certificate and its URL say
	shared *http.Transport // keeps connections
	single *http.Transport // HTTP/1.1, one connection for one request: for upgrades
}

// Transport carries a request to the server. A request that asks for an upgrade gets a connection of its own: what a failed
// one leaves behind is closed.
func (s *Server) Transport(upgrade bool) http.RoundTripper {
	if upgrade {
		return s.reach.single
	}
	return s.reach.shared
}

// Host is what the server's URL says.
func (s *Server) Host() string { return s.reach.host }

// connect prepares the way to a server; last's is kept where it is the same.
func (s *Servers) connect(a *apiregistrationv1.APIService, last *Server) (*reach, error) {
	if last != nil && last.reach != nil && same(&last.reach.spec, &a.Spec) {
		return last.reach, nil
	}
	ns, name := a.Spec.Service.Namespace, a.Spec.Service.Name
	r := &reach{spec: a.Spec, host: net.JoinHostPort(name+"."+ns+".svc", strconv.Itoa(int(port(a))))}
	var roots *x509.CertPool
	var err error
	if len(a.Spec.CABundle) > 0 {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(a.Spec.CABundle) {
			err = errs.New(errs.Invalid, "spec.caBundle holds no certificate")
		}
	}
	secure := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: name + "." + ns + ".svc", RootCAs: roots,
		InsecureSkipVerify: a.Spec.InsecureSkipTLSVerify, //nolint:gosec // whoever registers the server says so
		// Asked at each handshake: it is renewed while running.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.cfg.Certificate() },
	}
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		at, err := s.cfg.Resolve(ns, name, port(a))
		if err != nil {
			return nil, err
		}
		return s.cfg.Dial(ctx, network, at)
	}
	r.shared = &http.Transport{
		TLSClientConfig: secure, DialContext: dial, ForceAttemptHTTP2: true, DisableCompression: true,
		TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 16,
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
	plain := secure.Clone()
	plain.NextProtos = []string{"http/1.1"}
	r.single = &http.Transport{TLSClientConfig: plain, DialContext: dial, TLSHandshakeTimeout: 10 * time.Second, DisableKeepAlives: true, DisableCompression: true}
	if last != nil && last.reach != nil {
		last.reach.shared.CloseIdleConnections()
	}
	return r, err
}
