// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/cache"
)

// Authenticator reads who sent a request: the client certificate of its connection, else its bearer token, else nobody.
type Authenticator struct {
	authority *Authority
	state     cache.Reader
	newest    func(context.Context) (*cache.Snapshot, error)
	options   Options
	sources   []Source
	proxies   []frontProxies

	mu     sync.Mutex // guards tokens
	tokens map[[sha256.Size]byte]verified
}

// verified is a token whose signature was checked; whether its objects exist is checked each time.
type verified struct {
	token Token
	until time.Time
}

// Bounds of the cache of verified tokens.
const (
	trustToken = time.Minute
	maxTokens  = 4096
)

// NewAuthenticator makes one; it starts nothing. newest waits until the cache has all that the store has now.
func NewAuthenticator(a *Authority, state cache.Reader, newest func(context.Context) (*cache.Snapshot, error), o Options) (*Authenticator, error) {
	n := &Authenticator{authority: a, state: state, newest: newest, options: o, tokens: map[[sha256.Size]byte]verified{}}
	var err error
	if n.proxies, err = newFrontProxies(a, o.RequestHeaderCA, o.RequestHeaderNames); err != nil {
		return nil, err
	}
	if o.TokenFile != "" {
		list, err := readTokens(o.TokenFile)
		if err != nil {
			return nil, err
		}
		n.sources = append(n.sources, list)
	}
	if !o.NoBootstrap {
		n.sources = append(n.sources, bootstrapTokens{state, a.now})
	}
	if o.OIDC.IssuerURL != "" {
		oidc, err := newOIDC(o.OIDC, a.now)
		if err != nil {
			return nil, err
		}
		n.sources = append(n.sources, oidc)
	}
	if o.TokenWebhook != nil {
		n.sources = append(n.sources, o.TokenWebhook)
	}
	return n, nil
}

// Identify says whose a bearer token is, and for which of the audiences it is good. ServiceAccount tokens say themselves
// what they are for; those of other sources are for the API server.
func (n *Authenticator) Identify(ctx context.Context, token string, audiences []string) (User, []string, error) {
	if issuerOf(token) == n.authority.issuer || len(n.sources) == 0 {
		t, err := n.Token(ctx, token, audiences)
		if err != nil {
			return User{}, nil, err
		}
		return t.User(), t.Audiences, nil
	}
	for _, s := range n.sources {
		u, ok, err := s.Identify(ctx, token)
		if err != nil {
			return User{}, nil, err
		}
		if !ok {
			continue
		}
		if !slices.Contains(audiences, n.authority.issuer) {
			return User{}, nil, errs.New(errs.Unauthentic, "the token is for %s only", n.authority.issuer)
		}
		if !u.In(Authenticated) {
			u.Groups = append(slices.Clone(u.Groups), Authenticated)
		}
		return u, []string{n.authority.issuer}, nil
	}
	return User{}, nil, errs.New(errs.Unauthentic, "nobody knows the token")
}

type connKey struct{}

// conn remembers for a connection that its certificate was verified.
type conn struct {
	once  sync.Once
	user  User
	front bool // a front proxy: each request says who asks
	end   time.Time
	err   error
}

// ConnContext is for http.Server: it lets a client certificate be verified once a connection.
func ConnContext(ctx context.Context) context.Context {
	return context.WithValue(ctx, connKey{}, &conn{})
}

// Authenticate says who sent r. Credentials that are there but wrong are errs.Unauthentic, never anonymous. It removes
// the credentials from r, so that nothing behind can pass them on.
func (n *Authenticator) Authenticate(r *http.Request) (User, error) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		r.Header.Del("Authorization")
		return n.byCertificate(r)
	}
	if token, ok := bearer(r); ok {
		if u, ok := n.authority.joiner(token); ok {
			return u, nil
		}
		u, _, err := n.Identify(r.Context(), token, []string{n.authority.issuer})
		return u, err
	}
	if r.Header.Get("Authorization") != "" {
		return User{}, errs.New(errs.Unauthentic, "this kind of authorization is not understood; use a client certificate or a bearer token")
	}
	if n.options.NoAnonymous {
		return User{}, errs.New(errs.Unauthentic, "requests must carry credentials")
	}
	return User{Name: Anonymous, Groups: []string{Unauthenticated}}, nil
}

func (n *Authenticator) byCertificate(r *http.Request) (User, error) {
	c, ok := r.Context().Value(connKey{}).(*conn)
	if !ok {
		c = &conn{}
	}
	c.once.Do(func() {
		c.user, c.front, c.err = n.verify(r.TLS.PeerCertificates)
		c.end = r.TLS.PeerCertificates[0].NotAfter
	})
	if c.err == nil && n.authority.now().After(c.end) {
		return User{}, errs.New(errs.Unauthentic, "the client certificate ended at %s", c.end.Format(time.RFC3339))
	}
	if c.err == nil && c.front {
		return remote(r)
	}
	return c.user, c.err
}

// verify says whose a certificate is, or that it is a front proxy's.
func (n *Authenticator) verify(chain []*x509.Certificate) (u User, front bool, err error) {
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	o := x509.VerifyOptions{
		Roots: n.authority.Pool(), Intermediates: intermediates, CurrentTime: n.authority.now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if _, err := chain[0].Verify(o); err != nil {
		for _, p := range n.proxies {
			if p.verified(o, chain[0]) {
				return User{}, true, nil
			}
		}
		return User{}, false, errs.New(errs.Unauthentic, "verify client certificate: %w", err)
	}
	name := chain[0].Subject
	if name.CommonName == "" {
		return User{}, false, errs.New(errs.Unauthentic, "the client certificate has no common name")
	}
	return User{Name: name.CommonName, Groups: append(slices.Clone(name.Organization), Authenticated)}, false, nil
}

// websocketToken carries a token from browsers, which cannot set headers.
const websocketToken = "base64url.bearer.authorization.k8s.io."

// bearer takes the token out of the request's headers.
func bearer(r *http.Request) (string, bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "bearer") {
		r.Header.Del("Authorization")
		return strings.TrimSpace(token), true
	}
	var keep []string
	for _, line := range r.Header.Values("Sec-Websocket-Protocol") {
		for _, p := range strings.Split(line, ",") {
			p = strings.TrimSpace(p)
			encoded, ok := strings.CutPrefix(p, websocketToken)
			if !ok {
				keep = append(keep, p)
				continue
			}
			if b, err := base64.RawURLEncoding.DecodeString(encoded); err == nil {
				token = string(b)
			}
		}
	}
	if token == "" {
		return "", false
	}
	r.Header.Set("Sec-Websocket-Protocol", strings.Join(keep, ", "))
	return token, true
}

// Token verifies a ServiceAccount token for one of the audiences, with what it is bound to: an account, pod, secret or
// node that is gone, or another of the same name, takes its tokens along.
func (n *Authenticator) Token(ctx context.Context, token string, audiences []string) (Token, error) {
	t, err := n.signed(token, audiences)
	if err != nil {
		return Token{}, err
	}
	if err := alive(n.state.Snapshot(), t); err == nil {
		return t, nil
	}
	// A pod that was made a moment ago may use its token before the cache shows it.
	s, err := n.newest(ctx)
	if err != nil {
		return Token{}, errs.New(errs.Unavailable, "look for what the token is bound to: %w", err)
	}
	if err := alive(s, t); err != nil {
		return Token{}, err
	}
	return t, nil
}

// alive checks that what a token is bound to exists.
func alive(s *cache.Snapshot, t Token) error {
	sa, ok := cache.Get[corev1.ServiceAccount](s, t.Namespace, t.ServiceAccount.Name)
	if !ok || string(sa.UID) != t.ServiceAccount.UID {
		return errs.New(errs.Unauthentic, "the token's service account %s/%s does not exist any more", t.Namespace, t.ServiceAccount.Name)
	}
	if t.Pod != nil {
		if p, ok := cache.Get[corev1.Pod](s, t.Namespace, t.Pod.Name); !ok || string(p.UID) != t.Pod.UID {
			return errs.New(errs.Unauthentic, "the token's pod %s/%s does not exist any more", t.Namespace, t.Pod.Name)
		}
	}
	if t.Secret != nil {
		if x, ok := cache.Get[corev1.Secret](s, t.Namespace, t.Secret.Name); !ok || string(x.UID) != t.Secret.UID {
			return errs.New(errs.Unauthentic, "the token's secret %s/%s does not exist any more", t.Namespace, t.Secret.Name)
		}
	}
	if t.Node != nil && t.Pod == nil {
		if x, ok := cache.Get[corev1.Node](s, "", t.Node.Name); !ok || string(x.UID) != t.Node.UID {
			return errs.New(errs.Unauthentic, "the token's node %s does not exist any more", t.Node.Name)
		}
	}
	return nil
}

// signed checks what does not change: signature and claims; the result is remembered for the default audience.
func (n *Authenticator) signed(token string, audiences []string) (Token, error) {
	key := sha256.Sum256([]byte(strings.Join(audiences, "\x00") + "\x00" + token))
	now := n.authority.now()
	n.mu.Lock()
	v, ok := n.tokens[key]
	n.mu.Unlock()
	if ok && now.Before(v.until) && now.Before(v.token.Expires) {
		return v.token, nil
	}
	t, err := n.authority.Verify(token, audiences)
	if err != nil {
		return Token{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.tokens) >= maxTokens {
		clear(n.tokens)
	}
	n.tokens[key] = verified{t, now.Add(trustToken)}
	return t, nil
}
