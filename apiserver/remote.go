// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/apiserver/webhook"
	"github.com/knarr/knarr/internal/errs"
)

// The two questions that may be asked of servers outside: whose is this token, and may this user do that. Answers are
// remembered for a while, as upstream does, so that such a server is not in the way of every request.
const (
	trustRemoteToken = 2 * time.Minute
	trustAllowed     = 5 * time.Minute
	trustRefused     = 30 * time.Second
	remoteWithin     = 10 * time.Second
	maxRemembered    = 4096
)

// openAuth makes the authenticator and the remote authorizer.
func (s *Server) openAuth(cfg Config) (err error) {
	options := cfg.Auth
	if cfg.TokenWebhook != "" {
		target, err := webhook.FromKubeconfig(cfg.TokenWebhook)
		if err != nil {
			return err
		}
		options.TokenWebhook = &remoteTokens{webhook.New(nil), target, s.authority.Issuer(), remembered[auth.User]{now: s.now}}
	}
	if cfg.AuthorizationWebhook != "" {
		target, err := webhook.FromKubeconfig(cfg.AuthorizationWebhook)
		if err != nil {
			return err
		}
		s.authz.Remote = (&remoteAuthorizer{s, webhook.New(nil), target, remembered[verdict]{now: s.now}}).allows
	}
	s.authn, err = auth.NewAuthenticator(s.authority, s.cache, s.newest, options)
	return err
}

// remembered keeps answers until they expire.
type remembered[V any] struct {
	now func() time.Time

	mu sync.Mutex // guards m
	m  map[[sha256.Size]byte]answerUntil[V]
}

type answerUntil[V any] struct {
	v     V
	until time.Time
}

func (r *remembered[V]) get(key [sha256.Size]byte) (V, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.m[key]
	return a.v, ok && r.now().Before(a.until)
}

func (r *remembered[V]) put(key [sha256.Size]byte, v V, life time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m == nil || len(r.m) >= maxRemembered {
		r.m = map[[sha256.Size]byte]answerUntil[V]{}
	}
	r.m[key] = answerUntil[V]{v, r.now().Add(life)}
}

// remoteTokens asks a webhook whose a token is. Only good answers are remembered.
type remoteTokens struct {
	client *webhook.Client
	target webhook.Target
	issuer string
	known  remembered[auth.User]
}

// Identify implements auth.Source.
func (w *remoteTokens) Identify(ctx context.Context, token string) (auth.User, bool, error) {
	key := sha256.Sum256([]byte(token))
	if u, ok := w.known.get(key); ok {
		return u, true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, remoteWithin)
	defer cancel()
	q := authenticationv1.TokenReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview"},
		Spec:     authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{w.issuer}},
	}
	var a authenticationv1.TokenReview
	if err := w.client.Post(ctx, w.target, q, &a); err != nil {
		return auth.User{}, true, errs.New(errs.Unauthentic, "ask the token webhook: %w", err)
	}
	if !a.Status.Authenticated {
		return auth.User{}, false, nil
	}
	if a.Status.User.Username == "" {
		return auth.User{}, true, errs.New(errs.Unauthentic, "the token webhook names no user")
	}
	u := auth.User{Name: a.Status.User.Username, UID: a.Status.User.UID, Groups: a.Status.User.Groups}
	for k, v := range a.Status.User.Extra {
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[k] = v
	}
	w.known.put(key, u, trustRemoteToken)
	return u, true, nil
}

// verdict is what the authorization webhook said.
type verdict struct {
	allowed bool
	reason  string
}

// remoteAuthorizer asks a webhook for permission. One that cannot be reached allows nothing.
type remoteAuthorizer struct {
	s      *Server
	client *webhook.Client
	target webhook.Target
	known  remembered[verdict]
}

func (w *remoteAuthorizer) allows(ctx context.Context, a auth.Attributes) (bool, string) {
	q := authorizationv1.SubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SubjectAccessReview"},
		Spec:     authorizationv1.SubjectAccessReviewSpec{User: a.User.Name, UID: a.User.UID, Groups: a.User.Groups},
	}
	for k, v := range a.User.Extra {
		if q.Spec.Extra == nil {
			q.Spec.Extra = map[string]authorizationv1.ExtraValue{}
		}
		q.Spec.Extra[k] = v
	}
	if a.Path != "" {
		q.Spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: a.Path, Verb: a.Verb}
	} else {
		q.Spec.ResourceAttributes = &authorizationv1.ResourceAttributes{
			Namespace: a.Namespace, Verb: a.Verb, Group: a.Group, Version: a.Version, Resource: a.Resource, Subresource: a.Subresource, Name: a.Name,
		}
	}
	raw, err := json.Marshal(q.Spec)
	if err != nil {
		return false, ""
	}
	key := sha256.Sum256(raw)
	if v, ok := w.known.get(key); ok {
		return v.allowed, v.reason
	}
	ctx, cancel := context.WithTimeout(ctx, remoteWithin)
	defer cancel()
	var answer authorizationv1.SubjectAccessReview
	if err := w.client.Post(ctx, w.target, q, &answer); err != nil {
		w.s.log.Warn("the authorization webhook does not answer; nothing is allowed by it", "err", err)
		return false, ""
	}
	v := verdict{answer.Status.Allowed && !answer.Status.Denied, answer.Status.Reason}
	life := trustRefused
	if v.allowed {
		life = trustAllowed
	}
	w.known.put(key, v, life)
	return v.allowed, v.reason
}
