// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/client"
)

// masters may do everything in the cluster; only its own authority makes certificates that say so. The API server's is one.
const masters = "system:masters"

// How long the API server's word holds, as upstream's kubelet has it.
const (
	trustToken   = 2 * time.Minute
	trustAllowed = 5 * time.Minute
	trustDenied  = 30 * time.Second
	maxAnswers   = 1024
)

// Access asks the API server who may use the kubelet's API: TokenReview for bearer tokens, SubjectAccessReview for everybody
// on nodes/{proxy,metrics,stats,log,…} of this node. Answers are kept for a while. Without one it lets nobody in but masters.
type Access struct {
	Node string
	Do   client.Doer
	Log  *slog.Logger

	mu      sync.Mutex // guards what follows
	tokens  map[[sha256.Size]byte]answered[authenticationv1.UserInfo]
	allowed map[string]answered[bool]
}

// answered is what the API server said, and until when it holds.
type answered[T any] struct {
	said  T
	until time.Time
}

// Guard lets only those requests through to next that came over TLS from somebody who is known and may do what they ask:
// by a certificate that the listener has verified, or a bearer token. The listener's tls.Config must have ClientCAs and at
// least VerifyClientCertIfGiven.
func (a *Access) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		if clean := path.Clean(r.URL.Path); clean != r.URL.Path && clean+"/" != r.URL.Path {
			http.Error(w, "the path is not in its shortest form", http.StatusBadRequest)
			return
		}
		user, err := a.who(r)
		if err != nil {
			a.Log.Debug("the kubelet refuses credentials", "path", r.URL.Path, "from", r.RemoteAddr, "err", err)
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		verb, subresources := asks(r)
		for _, sub := range subresources {
			ok, err := a.may(r.Context(), user, verb, sub)
			if err != nil {
				a.Log.Warn("ask the API server who may use the kubelet", "user", user.Username, "err", err)
				http.Error(w, "the API server does not say who may do this", http.StatusInternalServerError)
				return
			}
			if ok {
				r.Header.Del("Authorization")
				next.ServeHTTP(w, r)
				return
			}
		}
		http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=%v)", user.Username, verb, subresources), http.StatusForbidden)
	})
}

// asks is what a request is about, as the API server's rules name it. Who runs something in a container creates, whatever
// the method; so does who turns a connection into something else.
func asks(r *http.Request) (verb string, subresources []string) {
	is := func(list ...string) bool {
		return slices.ContainsFunc(list, func(p string) bool { return r.URL.Path == p || strings.HasPrefix(r.URL.Path, p+"/") })
	}
	verb = map[string]string{
		http.MethodGet: "get", http.MethodHead: "get", http.MethodPost: "create", http.MethodPut: "update",
		http.MethodPatch: "patch", http.MethodDelete: "delete",
	}[r.Method]
	if verb == "" || r.Header.Get("Upgrade") != "" || is("/exec", "/attach", "/portForward", "/run") {
		verb = "create"
	}
	switch {
	case is("/stats"):
		return verb, []string{"stats"}
	case is("/metrics"):
		return verb, []string{"metrics"}
	case is("/logs"):
		return verb, []string{"log"}
	case is("/configz"):
		return verb, []string{"configz", "proxy"}
	case is("/healthz"):
		return verb, []string{"healthz", "proxy"}
	case is("/pods", "/runningpods"):
		return verb, []string{"pods", "proxy"}
	}
	return verb, []string{"proxy"}
}

func (a *Access) who(r *http.Request) (authenticationv1.UserInfo, error) {
	if len(r.TLS.VerifiedChains) > 0 && len(r.TLS.PeerCertificates) > 0 {
		return holder(r.TLS.PeerCertificates[0])
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "bearer") || token == "" || a.Do == nil {
		return authenticationv1.UserInfo{}, errs.New(errs.Unauthentic, "no certificate and no bearer token")
	}
	return a.review(r.Context(), token)
}

func holder(c *x509.Certificate) (authenticationv1.UserInfo, error) {
	if c.Subject.CommonName == "" || time.Now().After(c.NotAfter) {
		return authenticationv1.UserInfo{}, errs.New(errs.Unauthentic, "the certificate names nobody, or has ended")
	}
	return authenticationv1.UserInfo{Username: c.Subject.CommonName, Groups: append(slices.Clone(c.Subject.Organization), "system:authenticated")}, nil
}

// review asks whose a token is.
func (a *Access) review(ctx context.Context, token string) (authenticationv1.UserInfo, error) {
	key := sha256.Sum256([]byte(token))
	a.mu.Lock()
	have, ok := a.tokens[key]
	a.mu.Unlock()
	if ok && time.Now().Before(have.until) {
		return have.said, nil
	}
	obj, err := a.Do.Do(ctx, client.Request{Verb: client.Create, Type: kinds.For[authenticationv1.TokenReview](),
		Object: &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}})
	if err != nil {
		return authenticationv1.UserInfo{}, fmt.Errorf("review a token: %w", err)
	}
	got, ok := obj.(*authenticationv1.TokenReview)
	if !ok || !got.Status.Authenticated || got.Status.User.Username == "" {
		return authenticationv1.UserInfo{}, errs.New(errs.Unauthentic, "the API server does not know the token")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tokens == nil || len(a.tokens) >= maxAnswers {
		a.tokens = map[[sha256.Size]byte]answered[authenticationv1.UserInfo]{}
	}
	a.tokens[key] = answered[authenticationv1.UserInfo]{got.Status.User, time.Now().Add(trustToken)}
	return got.Status.User, nil
}

// may asks whether somebody may do something with this node.
func (a *Access) may(ctx context.Context, u authenticationv1.UserInfo, verb, subresource string) (bool, error) {
	if slices.Contains(u.Groups, masters) {
		return true, nil
	}
	if a.Do == nil {
		return false, nil
	}
	key := fmt.Sprintf("%q", []any{u.Username, u.UID, u.Groups, u.Extra, verb, subresource})
	a.mu.Lock()
	have, ok := a.allowed[key]
	a.mu.Unlock()
	if ok && time.Now().Before(have.until) {
		return have.said, nil
	}
	spec := authorizationv1.SubjectAccessReviewSpec{User: u.Username, UID: u.UID, Groups: u.Groups,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Version: "v1", Resource: "nodes", Subresource: subresource, Name: a.Node}}
	for k, v := range u.Extra {
		if spec.Extra == nil {
			spec.Extra = map[string]authorizationv1.ExtraValue{}
		}
		spec.Extra[k] = authorizationv1.ExtraValue(v)
	}
	obj, err := a.Do.Do(ctx, client.Request{Verb: client.Create, Type: kinds.For[authorizationv1.SubjectAccessReview](),
		Object: &authorizationv1.SubjectAccessReview{Spec: spec}})
	if err != nil {
		return false, fmt.Errorf("review access: %w", err)
	}
	got, ok := obj.(*authorizationv1.SubjectAccessReview)
	now := answered[bool]{ok && got.Status.Allowed && !got.Status.Denied, time.Now().Add(trustDenied)}
	if now.said {
		now.until = time.Now().Add(trustAllowed)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.allowed == nil || len(a.allowed) >= maxAnswers {
		a.allowed = map[string]answered[bool]{}
	}
	a.allowed[key] = now
	return now.said, nil
}
