// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/knarr/knarr/internal/errs"
)

// OIDC says which OpenID Connect issuer's ID tokens are good; the names are those of kube-apiserver's --oidc flags. It is off
// while IssuerURL is empty.
type OIDC struct {
	IssuerURL, ClientID           string
	UsernameClaim, UsernamePrefix string // default "sub"; prefix default issuer#, "-" for none
	GroupsClaim, GroupsPrefix     string
	CAFile                        string
	SigningAlgs                   []string // default RS256
	RequiredClaims                map[string]string
}

// Bounds of what is asked of an issuer.
const (
	oidcWithin    = 10 * time.Second
	oidcAnswer    = 1 << 20
	oidcRefresh   = 10 * time.Second // keys are not asked for more often
	oidcLeeway    = 10 * time.Second
	oidcMaxGroups = 1024
)

// oidcTokens verifies the tokens of one issuer. Its keys are fetched when first needed, and again when a token names a key
// that is not among them: that is how issuers change keys.
type oidcTokens struct {
	cfg    OIDC
	algs   []jose.SignatureAlgorithm
	client *http.Client
	now    func() time.Time

	mu    sync.Mutex // guards the rest
	keys  jose.JSONWebKeySet
	asked time.Time
}

func newOIDC(cfg OIDC, now func() time.Time) (*oidcTokens, error) {
	u, err := url.Parse(cfg.IssuerURL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, errs.New(errs.Invalid, "OIDC issuer %q is not of the form https://host", cfg.IssuerURL)
	}
	if cfg.ClientID == "" {
		return nil, errs.New(errs.Invalid, "an OIDC issuer needs a client id")
	}
	if cfg.UsernameClaim == "" {
		cfg.UsernameClaim = "sub"
	}
	switch {
	case cfg.UsernamePrefix == "-":
		cfg.UsernamePrefix = ""
	case cfg.UsernamePrefix == "" && cfg.UsernameClaim != "email":
		cfg.UsernamePrefix = cfg.IssuerURL + "#"
	}
	if len(cfg.SigningAlgs) == 0 {
		cfg.SigningAlgs = []string{string(jose.RS256)}
	}
	o := &oidcTokens{cfg: cfg, now: now}
	known := []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512}
	for _, a := range cfg.SigningAlgs {
		alg := jose.SignatureAlgorithm(a)
		if !slices.Contains(known, alg) {
			return nil, errs.New(errs.Invalid, "OIDC signing algorithm %q is not supported", a)
		}
		o.algs = append(o.algs, alg)
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		data, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the OIDC issuer's CA: %w", err)
		}
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(data) {
			return nil, errs.New(errs.Invalid, "%s holds no certificate", cfg.CAFile)
		}
	}
	o.client = &http.Client{
		Timeout: oidcWithin, Transport: &http.Transport{TLSClientConfig: tlsConfig},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return o, nil
}

// issuerOf reads who a token says made it, believing nothing; "" when it is no JWT.
func issuerOf(token string) string {
	if strings.Count(token, ".") != 2 {
		return ""
	}
	t, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512,
	})
	if err != nil {
		return ""
	}
	var c jwt.Claims
	if err := t.UnsafeClaimsWithoutVerification(&c); err != nil {
		return ""
	}
	return c.Issuer
}

// Identify implements Source.
func (o *oidcTokens) Identify(ctx context.Context, token string) (User, bool, error) {
	if issuerOf(token) != o.cfg.IssuerURL {
		return User{}, false, nil
	}
	u, err := o.verify(ctx, token)
	if err != nil && errs.Kind(err) == nil {
		err = errs.New(errs.Unauthentic, "verify ID token: %w", err)
	}
	return u, true, err
}

func (o *oidcTokens) verify(ctx context.Context, token string) (User, error) {
	t, err := jwt.ParseSigned(token, o.algs)
	if err != nil {
		return User{}, err
	}
	key, err := o.key(ctx, t.Headers[0].KeyID)
	if err != nil {
		return User{}, err
	}
	var public jwt.Claims
	all := map[string]any{}
	if err := t.Claims(key, &public, &all); err != nil {
		return User{}, err
	}
	if public.Expiry == nil {
		return User{}, errs.New(errs.Unauthentic, "the ID token has no expiry")
	}
	err = public.ValidateWithLeeway(jwt.Expected{Issuer: o.cfg.IssuerURL, AnyAudience: jwt.Audience{o.cfg.ClientID}, Time: o.now()}, oidcLeeway)
	if err != nil {
		return User{}, err
	}
	return o.user(all)
}

// user maps claims to a user.
func (o *oidcTokens) user(claims map[string]any) (User, error) {
	for name, want := range o.cfg.RequiredClaims {
		if got, ok := claims[name].(string); !ok || got != want {
			return User{}, errs.New(errs.Unauthentic, "the claim %q is not what it must be", name)
		}
	}
	name, ok := claims[o.cfg.UsernameClaim].(string)
	if !ok || name == "" {
		return User{}, errs.New(errs.Unauthentic, "the ID token has no claim %q with a name", o.cfg.UsernameClaim)
	}
	if verified, there := claims["email_verified"]; there && o.cfg.UsernameClaim == "email" && verified != true {
		return User{}, errs.New(errs.Unauthentic, "the email address is not verified")
	}
	u := User{Name: o.cfg.UsernamePrefix + name}
	if o.cfg.GroupsClaim == "" {
		return u, nil
	}
	switch groups := claims[o.cfg.GroupsClaim].(type) {
	case nil:
	case string:
		u.Groups = append(u.Groups, o.cfg.GroupsPrefix+groups)
	case []any:
		if len(groups) > oidcMaxGroups {
			return User{}, errs.New(errs.TooLarge, "the ID token names more than %d groups", oidcMaxGroups)
		}
		for _, g := range groups {
			text, ok := g.(string)
			if !ok {
				return User{}, errs.New(errs.Unauthentic, "the claim %q holds what is no name", o.cfg.GroupsClaim)
			}
			u.Groups = append(u.Groups, o.cfg.GroupsPrefix+text)
		}
	default:
		return User{}, errs.New(errs.Unauthentic, "the claim %q is no list of names", o.cfg.GroupsClaim)
	}
	return u, nil
}

// key finds a key by its name, asking the issuer anew when it is not known, but not too often.
func (o *oidcTokens) key(ctx context.Context, id string) (*jose.JSONWebKey, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	find := func() *jose.JSONWebKey {
		for i := range o.keys.Keys {
			if k := &o.keys.Keys[i]; (k.KeyID == id || id == "" && len(o.keys.Keys) == 1) && k.Use != "enc" {
				return k
			}
		}
		return nil
	}
	if k := find(); k != nil {
		return k, nil
	}
	now := o.now()
	if !o.asked.IsZero() && now.Sub(o.asked) < oidcRefresh && len(o.keys.Keys) > 0 {
		return nil, errs.New(errs.Unauthentic, "the issuer has no key %q", id)
	}
	o.asked = now
	keys, err := o.fetch(ctx)
	if err != nil {
		return nil, errs.New(errs.Unauthentic, "ask the issuer for its keys: %w", err)
	}
	o.keys = keys
	if k := find(); k != nil {
		return k, nil
	}
	return nil, errs.New(errs.Unauthentic, "the issuer has no key %q", id)
}

func (o *oidcTokens) fetch(ctx context.Context) (jose.JSONWebKeySet, error) {
	var found struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	var keys jose.JSONWebKeySet
	if err := o.get(ctx, strings.TrimSuffix(o.cfg.IssuerURL, "/")+"/.well-known/openid-configuration", &found); err != nil {
		return keys, err
	}
	if found.Issuer != o.cfg.IssuerURL {
		return keys, fmt.Errorf("its discovery document is of %q", found.Issuer)
	}
	if !strings.HasPrefix(found.JWKS, "https://") {
		return keys, fmt.Errorf("its keys are at %q, which is not https", found.JWKS)
	}
	err := o.get(ctx, found.JWKS, &keys)
	return keys, err
}

func (o *oidcTokens) get(ctx context.Context, from string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	res, err := o.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %d", from, res.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, oidcAnswer))
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}
