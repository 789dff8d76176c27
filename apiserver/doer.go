// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/apiserver/rest"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/client"
)

// As is the API as user sees it, without a socket and without encoding: the same authorisation, admission and validation.
func (s *Server) As(user auth.User) client.Doer { return &doer{s, user} }

type doer struct {
	s    *Server
	user auth.User
}

func (d *doer) Do(ctx context.Context, r client.Request) (kinds.Object, error) {
	res := r.Type.Resource()
	a := auth.Attributes{
		User: d.user, Verb: string(r.Verb), Group: res.Group, Version: res.Version, Resource: res.Resource,
		Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name,
	}
	if r.Type.Cluster {
		a.Namespace = ""
	}
	if ok, reason := d.s.authz.Allows(ctx, a); !ok {
		return nil, rest.Status(refused(a, reason))
	}
	if r.Namespace == "" && !r.Type.Cluster && r.Object != nil {
		r.Namespace = r.Object.GetNamespace()
	}
	if r.Name == "" && r.Object != nil && r.Verb != client.Create {
		r.Name = r.Object.GetName()
	}
	answer, err := d.s.execute(ctx, rest.Request{Request: r, User: d.user, Validation: rest.Strict})
	if err != nil {
		return nil, err
	}
	obj, _ := answer.Object.(kinds.Object) // a Status is no object: success says it all
	return obj, nil
}

// execute carries out an authorised request: the questions here, the rest in package rest.
func (s *Server) execute(ctx context.Context, r rest.Request) (rest.Answer, error) {
	if !r.Type.Virtual || r.Verb != client.Create || r.Subresource != "" {
		return s.core.Do(ctx, r)
	}
	if b, ok := r.Object.(*corev1.Binding); ok {
		// The old way to bind: POST to bindings instead of pods/NAME/binding.
		r.Type, r.Version, r.Subresource, r.Name = kinds.For[corev1.Pod](), nil, "binding", b.Name
		return s.core.Do(ctx, r)
	}
	obj := r.Object.DeepCopyObject().(kinds.Object)
	obj.GetObjectKind().SetGroupVersionKind(r.Type.GroupVersionKind)
	var err error
	switch q := obj.(type) {
	case *authenticationv1.SelfSubjectReview:
		q.Status.UserInfo = userInfo(r.User)
	case *authenticationv1.TokenReview:
		s.tokenReview(ctx, q)
	case *authorizationv1.SelfSubjectAccessReview:
		q.Status, err = s.accessReview(ctx, r.User, q.Spec.ResourceAttributes, q.Spec.NonResourceAttributes)
	case *authorizationv1.SubjectAccessReview:
		q.Status, err = s.accessReview(ctx, subject(q.Spec), q.Spec.ResourceAttributes, q.Spec.NonResourceAttributes)
	case *authorizationv1.LocalSubjectAccessReview:
		if q.Spec.ResourceAttributes == nil || q.Spec.ResourceAttributes.Namespace != r.Namespace {
			return rest.Answer{}, rest.Status(apierrors.NewBadRequest("spec.resourceAttributes.namespace must match metadata.namespace"))
		}
		q.Status, err = s.accessReview(ctx, subject(q.Spec), q.Spec.ResourceAttributes, nil)
	case *authorizationv1.SelfSubjectRulesReview:
		s.rulesReview(r.User, q)
	default:
		err = apierrors.NewMethodNotSupported(r.Type.Resource().GroupResource(), string(r.Verb))
	}
	if err != nil {
		return rest.Answer{}, rest.Status(err)
	}
	return rest.Answer{Object: obj, Created: true}, nil
}
