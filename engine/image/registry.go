// SPDX-License-Identifier: Apache-2.0

package image

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"

	"github.com/knarr/knarr/internal/errs"
)

// Auth is what a registry asks for; the zero value is anonymous.
type Auth struct {
	Username, Password string
	IdentityToken      string // OAuth2 refresh token
	RegistryToken      string // bearer, sent as it is
}

func (a Auth) authenticator() authn.Authenticator {
	if a == (Auth{}) {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken})
}

// remoteRepo is one repository of one registry, authenticated.
type remoteRepo struct {
	named  reference.Named
	ep     endpoint
	repo   name.Repository
	client *http.Client
	base   string // "https://host/v2/name"
}

// openRepo finds out how to talk to an endpoint of the registry of n, and authenticates.
func openRepo(ctx context.Context, n reference.Named, ep endpoint, auth Auth, action string) (*remoteRepo, error) {
	reg, err := ep.registry()
	if err != nil {
		return nil, err
	}
	repo := reg.Repo(reference.Path(n))
	if ep.mirror {
		auth = Auth{}
	}
	rt, err := ep.connect(ctx, reg, auth, repo.Scope(action))
	if err != nil {
		return nil, registryError(n, ep, err)
	}
	return &remoteRepo{named: n, ep: ep, repo: repo, client: &http.Client{Transport: rt, CheckRedirect: checkRedirect},
		base: reg.Scheme() + "://" + reg.RegistryStr() + "/v2/" + repo.RepositoryStr()}, nil
}

func (ep endpoint) registry() (name.Registry, error) {
	opts := []name.Option{name.StrictValidation}
	if ep.plain {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(ep.host, opts...)
	if err != nil {
		return reg, errs.New(errs.Invalid, "registry %q: %w", ep.host, err)
	}
	return reg, nil
}

// connect asks the registry which scheme and authentication it wants. All of it together is bounded: a registry that
// cannot be reached must be said so soon.
func (ep endpoint) connect(ctx context.Context, reg name.Registry, auth Auth, scopes ...string) (http.RoundTripper, error) {
	base, err := ep.transport()
	if err != nil {
		return nil, err
	}
	return transport.NewWithContext(ctx, reg, auth.authenticator(), base, scopes)
}

// newTransport gives up early on what does not answer: nothing may stall on a registry that is not there.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dial,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: time.Minute,
		IdleConnTimeout:       30 * time.Second,
		ForceAttemptHTTP2:     true,
	}
}

// How long a name may take to resolve, and all of connecting to what it resolves to.
const (
	resolveFor = 2500 * time.Millisecond
	connectFor = 10 * time.Second
)

// dial bounds the lookup apart from the connection: without a way out, resolvers wait far longer than people do.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectFor)
	defer cancel()
	lookup, done := context.WithTimeout(ctx, resolveFor)
	addrs, err := net.DefaultResolver.LookupNetIP(lookup, "ip", host)
	done()
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: connectFor / time.Duration(min(len(addrs), 2)), KeepAlive: 30 * time.Second}
	var failed error
	for _, ip := range addrs {
		conn, err := d.DialContext(ctx, network, net.JoinHostPort(ip.Unmap().String(), port))
		if err == nil {
			return conn, nil
		}
		failed = cmp.Or(failed, err)
	}
	return nil, failed
}

// httpsOnly refuses to send anything in the clear, whatever the library thinks of private addresses.
type httpsOnly struct{ next http.RoundTripper }

func (h httpsOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, errs.New(errs.Denied, "refusing plain http to %s", r.URL.Host)
	}
	return h.next.RoundTrip(r)
}

// checkRedirect lets a registry send us to its storage, but not to an inner address of ours, nor from https to http.
func checkRedirect(req *http.Request, via []*http.Request) error {
	from := via[0].URL
	if len(via) >= 5 {
		return errs.New(errs.Denied, "more than 5 redirects")
	}
	if from.Scheme == "https" && req.URL.Scheme != "https" {
		return errs.New(errs.Denied, "refusing redirect from https to %s", req.URL.Scheme)
	}
	ip := net.ParseIP(req.URL.Hostname())
	inner := req.URL.Hostname() == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsUnspecified())
	if inner && req.URL.Host != from.Host {
		return errs.New(errs.Denied, "refusing redirect from %s to the inner address %s", from.Host, req.URL.Host)
	}
	return nil
}

// registryError gives a registry's answer its kind and a sentence.
func registryError(n reference.Named, ep endpoint, err error) error {
	if errs.Kind(err) != nil || errors.Is(err, context.Canceled) {
		return err
	}
	ref := reference.FamiliarString(n)
	var te *transport.Error
	if !errors.As(err, &te) {
		return unreachable(ep, err)
	}
	var codes []string
	for _, d := range te.Errors {
		codes = append(codes, string(d.Code))
	}
	switch {
	case te.StatusCode == http.StatusNotFound || slices.Contains(codes, "MANIFEST_UNKNOWN") || slices.Contains(codes, "NAME_UNKNOWN"):
		return errs.New(errs.NotFound, "manifest for %s not found: %w", ref, err)
	case te.StatusCode == http.StatusUnauthorized || te.StatusCode == http.StatusForbidden:
		return errs.New(errs.Denied, "access denied for %s, repository does not exist or may require a login: %w", reference.FamiliarName(n), err)
	case te.StatusCode == http.StatusTooManyRequests || te.StatusCode >= 500:
		return errs.New(errs.Unavailable, "registry %s: %w", ep.host, err)
	}
	return fmt.Errorf("registry %s: %w", ep.host, err)
}

// unreachable gives an error of talking to an endpoint a sentence with the way out.
func unreachable(ep endpoint, err error) error {
	if errs.Kind(err) != nil || errors.Is(err, context.Canceled) {
		return err
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return errs.New(errs.Unavailable, "registry %s cannot be reached: lookup %s: %s", ep.host, dns.Name, dns.Err)
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return errs.New(errs.Unavailable, "registry %s: %w (to trust its authority put it into /etc/knarr/certs.d/%s/ca.crt; to trust anything give the daemon --insecure-registry %s)", ep.host, cert.Err, ep.host, ep.host)
	}
	var get *url.Error
	if errors.As(err, &get) {
		err = get.Err
	}
	if !ep.plain && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return errs.New(errs.Unavailable, "registry %s speaks plain http: to allow that give the daemon --insecure-registry %s", ep.host, ep.host)
	}
	return errs.New(errs.Unavailable, "registry %s: %w", ep.host, err)
}

// manifest fetches a manifest or index by tag or digest and answers its bytes, digest and the type its header names.
func (r *remoteRepo) manifest(ctx context.Context, tagOrDigest string) ([]byte, digest.Digest, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+"/manifests/"+tagOrDigest, nil)
	if err != nil {
		return nil, "", "", err
	}
	req.Header.Set("Accept", strings.Join(manifestTypes, ","))
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, "", "", registryError(r.named, r.ep, err)
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, "", "", registryError(r.named, r.ep, err)
	}
	data, err := readBounded(resp.Body, maxManifestSize)
	if err != nil {
		return nil, "", "", fmt.Errorf("manifest of %s: %w", reference.FamiliarString(r.named), err)
	}
	got := digest.FromBytes(data)
	if want := digest.Digest(tagOrDigest); want.Validate() == nil && want != got {
		return nil, "", "", errs.New(errs.Invalid, "manifest %s of %s: the registry sent content with digest %s", want, reference.FamiliarName(r.named), got)
	}
	mt, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return data, got, strings.TrimSpace(mt), nil
}
