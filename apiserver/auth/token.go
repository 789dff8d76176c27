// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/knarr/knarr/internal/errs"
)

// Token is what a ServiceAccount token says. Pod, Node and Secret are what it is bound to; at most one of Pod and Secret.
type Token struct {
	Namespace      string
	ServiceAccount Ref
	Pod            *Ref
	Node           *Ref // where Pod runs
	Secret         *Ref
	Audiences      []string
	ID             string
	Issued         time.Time
	Expires        time.Time
}

// Ref names an object and which of its lives is meant.
type Ref struct {
	Name string `json:"name"`
	UID  string `json:"uid,omitempty"`
}

// tokenSigner signs and verifies with one key, named by the hash of its public half as Kubernetes does.
type tokenSigner struct {
	key    *ecdsa.PrivateKey
	id     string
	signer jose.Signer
}

// claims are Kubernetes' private claims of a bound token.
type claims struct {
	Kubernetes struct {
		Namespace      string `json:"namespace,omitempty"`
		Node           *Ref   `json:"node,omitempty"`
		Pod            *Ref   `json:"pod,omitempty"`
		Secret         *Ref   `json:"secret,omitempty"`
		ServiceAccount Ref    `json:"serviceaccount"`
	} `json:"kubernetes.io"`
}

func newTokenSigner(key *ecdsa.PrivateKey) (*tokenSigner, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	id := base64.RawURLEncoding.EncodeToString(sum[:])
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: id, Algorithm: string(jose.ES256)},
	}, nil)
	return &tokenSigner{key: key, id: id, signer: signer}, err
}

// Issuer is the URL in every token, and the base of the OIDC discovery documents.
func (a *Authority) Issuer() string { return a.issuer }

// Sign makes the token; ID and, when zero, Issued are filled in.
func (a *Authority) Sign(t Token) (string, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", err
	}
	if t.Issued.IsZero() {
		t.Issued = a.now()
	}
	public := jwt.Claims{
		Issuer:    a.issuer,
		Subject:   ServiceAccount(t.Namespace, t.ServiceAccount.Name).Name,
		Audience:  t.Audiences,
		Expiry:    jwt.NewNumericDate(t.Expires),
		NotBefore: jwt.NewNumericDate(t.Issued),
		IssuedAt:  jwt.NewNumericDate(t.Issued),
		ID:        hex.EncodeToString(id[:]),
	}
	var private claims
	k := &private.Kubernetes
	k.Namespace, k.ServiceAccount, k.Pod, k.Node, k.Secret = t.Namespace, t.ServiceAccount, t.Pod, t.Node, t.Secret
	token, err := jwt.Signed(a.signer.signer).Claims(public).Claims(private).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}

// Verify checks signature, issuer, times and audience. Whether the objects it is bound to still exist is the caller's to
// check. Every fault is errs.Unauthentic.
func (a *Authority) Verify(token string, audiences []string) (Token, error) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return Token{}, errs.New(errs.Unauthentic, "read token: %w", err)
	}
	var public jwt.Claims
	var private claims
	if err := parsed.Claims(a.signer.key.Public(), &public, &private); err != nil {
		return Token{}, errs.New(errs.Unauthentic, "verify token: %w", err)
	}
	if public.Expiry == nil {
		return Token{}, errs.New(errs.Unauthentic, "verify token: it has no expiry")
	}
	if err := public.ValidateWithLeeway(jwt.Expected{Issuer: a.issuer, Time: a.now()}, 10*time.Second); err != nil {
		return Token{}, errs.New(errs.Unauthentic, "verify token: %w", err)
	}
	var matched []string
	for _, want := range audiences {
		if public.Audience.Contains(want) {
			matched = append(matched, want)
		}
	}
	if len(matched) == 0 {
		return Token{}, errs.New(errs.Unauthentic, "verify token: it is for %s, not for %s",
			strings.Join(public.Audience, ", "), strings.Join(audiences, ", "))
	}
	k := private.Kubernetes
	if public.Subject != ServiceAccount(k.Namespace, k.ServiceAccount.Name).Name || k.ServiceAccount.UID == "" {
		return Token{}, errs.New(errs.Unauthentic, "verify token: its subject and its claims differ")
	}
	return Token{
		Namespace: k.Namespace, ServiceAccount: k.ServiceAccount, Pod: k.Pod, Node: k.Node, Secret: k.Secret,
		Audiences: matched, ID: public.ID, Issued: public.IssuedAt.Time(), Expires: public.Expiry.Time(),
	}, nil
}

// User is the account the token stands for, with what Kubernetes adds about the token itself.
func (t Token) User() User {
	u := ServiceAccount(t.Namespace, t.ServiceAccount.Name)
	u.UID = t.ServiceAccount.UID
	u.Extra = map[string][]string{"authentication.kubernetes.io/credential-id": {"JTI=" + t.ID}}
	if t.Pod != nil {
		u.Extra["authentication.kubernetes.io/pod-name"] = []string{t.Pod.Name}
		u.Extra["authentication.kubernetes.io/pod-uid"] = []string{t.Pod.UID}
	}
	if t.Node != nil {
		u.Extra["authentication.kubernetes.io/node-name"] = []string{t.Node.Name}
		u.Extra["authentication.kubernetes.io/node-uid"] = []string{t.Node.UID}
	}
	return u
}

// Keys is the JSON Web Key Set with which others verify tokens (/openid/v1/jwks).
func (a *Authority) Keys() ([]byte, error) {
	return json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{
		Key: a.signer.key.Public(), KeyID: a.signer.id, Algorithm: string(jose.ES256), Use: "sig",
	}}})
}

// Discovery is the OIDC discovery document (/.well-known/openid-configuration).
func (a *Authority) Discovery() ([]byte, error) {
	return json.Marshal(map[string]any{
		"issuer":                                a.issuer,
		"jwks_uri":                              a.issuer + "/openid/v1/jwks",
		"response_types_supported":              []string{"id_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{string(jose.ES256)},
	})
}
