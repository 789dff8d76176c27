// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/knarr/knarr/apiserver/auth"
)

// The questions that clients ask about themselves and servers about their clients.

func userInfo(u auth.User) authenticationv1.UserInfo {
	out := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for k, v := range u.Extra {
		if out.Extra == nil {
			out.Extra = map[string]authenticationv1.ExtraValue{}
		}
		out.Extra[k] = v
	}
	return out
}

func subject(spec authorizationv1.SubjectAccessReviewSpec) auth.User {
	u := auth.User{Name: spec.User, UID: spec.UID, Groups: spec.Groups}
	for k, v := range spec.Extra {
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[k] = v
	}
	return u
}

func (s *Server) accessReview(ctx context.Context, u auth.User, res *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) (authorizationv1.SubjectAccessReviewStatus, error) {
	a := auth.Attributes{User: u}
	switch {
	case (res == nil) == (path == nil):
		return authorizationv1.SubjectAccessReviewStatus{}, apierrors.NewBadRequest("exactly one of spec.resourceAttributes and spec.nonResourceAttributes must be set")
	case res != nil:
		a.Verb, a.Group, a.Version, a.Resource, a.Subresource = res.Verb, res.Group, res.Version, res.Resource, res.Subresource
		a.Namespace, a.Name = res.Namespace, res.Name
	default:
		a.Verb, a.Path = path.Verb, path.Path
	}
	ok, reason := s.authz.Allows(ctx, a)
	return authorizationv1.SubjectAccessReviewStatus{Allowed: ok, Reason: reason}, nil
}

func (s *Server) tokenReview(ctx context.Context, q *authenticationv1.TokenReview) {
	audiences := q.Spec.Audiences
	if len(audiences) == 0 {
		audiences = []string{s.authority.Issuer()}
	}
	u, good, err := s.authn.Identify(ctx, q.Spec.Token, audiences)
	q.Spec.Token = ""
	if err != nil {
		q.Status = authenticationv1.TokenReviewStatus{Error: err.Error()}
		return
	}
	q.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: userInfo(u), Audiences: good}
}

func (s *Server) rulesReview(u auth.User, q *authorizationv1.SelfSubjectRulesReview) {
	q.Status.ResourceRules, q.Status.NonResourceRules = []authorizationv1.ResourceRule{}, []authorizationv1.NonResourceRule{}
	for _, r := range s.authz.Rules(u, q.Spec.Namespace) {
		if len(r.Resources) > 0 {
			q.Status.ResourceRules = append(q.Status.ResourceRules, authorizationv1.ResourceRule{
				Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames})
		}
		if len(r.NonResourceURLs) > 0 {
			q.Status.NonResourceRules = append(q.Status.NonResourceRules, authorizationv1.NonResourceRule{Verbs: r.Verbs, NonResourceURLs: r.NonResourceURLs})
		}
	}
	if _, isNode := auth.NodeName(u); isNode {
		q.Status.Incomplete = true
		q.Status.EvaluationError = "the Node authorizer's rules depend on the pods of the node and cannot be listed"
	}
}
