// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	authenticationv1alpha1 "k8s.io/api/authentication/v1alpha1"
	authenticationv1beta1 "k8s.io/api/authentication/v1beta1"
	authorizationv1 "k8s.io/api/authorization/v1"
	authorizationv1beta1 "k8s.io/api/authorization/v1beta1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The kinds that ask a question or give an order and are never stored. They need no name.
var (
	Binding = Kind[corev1.Binding]{
		Version: "v1", Name: "Binding", Plural: "bindings", Virtual: true, NoGeneration: true,
		Validate: validatePodBinding,
	}
	TokenReview = Kind[authenticationv1.TokenReview]{
		Group: authenticationv1.GroupName, Version: "v1", Name: "TokenReview", Plural: "tokenreviews",
		Served:  []Served[authenticationv1.TokenReview]{Alike[authenticationv1.TokenReview, authenticationv1beta1.TokenReview]("authentication.k8s.io", "v1beta1", nil, nil)},
		Cluster: true, Virtual: true, NoGeneration: true,
		Validate: func(r *authenticationv1.TokenReview) field.ErrorList {
			f := &faults{}
			f.need(field.NewPath("spec", "token"), r.Spec.Token)
			return f.list
		},
	}
	SelfSubjectReview = Kind[authenticationv1.SelfSubjectReview]{
		Group: authenticationv1.GroupName, Version: "v1", Name: "SelfSubjectReview", Plural: "selfsubjectreviews",
		Served: []Served[authenticationv1.SelfSubjectReview]{
			Alike[authenticationv1.SelfSubjectReview, authenticationv1beta1.SelfSubjectReview]("authentication.k8s.io", "v1beta1", nil, nil),
			Alike[authenticationv1.SelfSubjectReview, authenticationv1alpha1.SelfSubjectReview]("authentication.k8s.io", "v1alpha1", nil, nil),
		},
		Cluster: true, Virtual: true, NoGeneration: true,
	}
	SubjectAccessReview = Kind[authorizationv1.SubjectAccessReview]{
		Group: authorizationv1.GroupName, Version: "v1", Name: "SubjectAccessReview", Plural: "subjectaccessreviews",
		Served:  []Served[authorizationv1.SubjectAccessReview]{Alike[authorizationv1.SubjectAccessReview, authorizationv1beta1.SubjectAccessReview]("authorization.k8s.io", "v1beta1", nil, nil)},
		Cluster: true, Virtual: true, NoGeneration: true,
		Validate: func(r *authorizationv1.SubjectAccessReview) field.ErrorList {
			f := &faults{}
			validateAccess(f, &r.Spec)
			return f.list
		},
	}
	SelfSubjectAccessReview = Kind[authorizationv1.SelfSubjectAccessReview]{
		Group: authorizationv1.GroupName, Version: "v1", Name: "SelfSubjectAccessReview", Plural: "selfsubjectaccessreviews",
		Served:  []Served[authorizationv1.SelfSubjectAccessReview]{Alike[authorizationv1.SelfSubjectAccessReview, authorizationv1beta1.SelfSubjectAccessReview]("authorization.k8s.io", "v1beta1", nil, nil)},
		Cluster: true, Virtual: true, NoGeneration: true,
		Validate: func(r *authorizationv1.SelfSubjectAccessReview) field.ErrorList {
			f := &faults{}
			validateQuestion(f, r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
			return f.list
		},
	}
	SelfSubjectRulesReview = Kind[authorizationv1.SelfSubjectRulesReview]{
		Group: authorizationv1.GroupName, Version: "v1", Name: "SelfSubjectRulesReview", Plural: "selfsubjectrulesreviews",
		Served:  []Served[authorizationv1.SelfSubjectRulesReview]{Alike[authorizationv1.SelfSubjectRulesReview, authorizationv1beta1.SelfSubjectRulesReview]("authorization.k8s.io", "v1beta1", nil, nil)},
		Cluster: true, Virtual: true, NoGeneration: true,
		Validate: func(r *authorizationv1.SelfSubjectRulesReview) field.ErrorList {
			f := &faults{}
			f.need(field.NewPath("spec", "namespace"), r.Spec.Namespace)
			return f.list
		},
	}
	LocalSubjectAccessReview = Kind[authorizationv1.LocalSubjectAccessReview]{
		Group: authorizationv1.GroupName, Version: "v1", Name: "LocalSubjectAccessReview", Plural: "localsubjectaccessreviews",
		Served:  []Served[authorizationv1.LocalSubjectAccessReview]{Alike[authorizationv1.LocalSubjectAccessReview, authorizationv1beta1.LocalSubjectAccessReview]("authorization.k8s.io", "v1beta1", nil, nil)},
		Virtual: true, NoGeneration: true,
		Validate: validateLocalAccess,
	}
)

func validatePodBinding(b *corev1.Binding) field.ErrorList {
	f := &faults{}
	at := field.NewPath("target")
	if b.Target.Kind != "" {
		supported(f, at.Child("kind"), b.Target.Kind, "Node")
	}
	if f.need(at.Child("name"), b.Target.Name) {
		f.each(at.Child("name"), b.Target.Name, validation.IsDNS1123Subdomain(b.Target.Name))
	}
	return f.list
}

func validateAccess(f *faults, s *authorizationv1.SubjectAccessReviewSpec) {
	validateQuestion(f, s.ResourceAttributes, s.NonResourceAttributes)
	if s.User == "" && len(s.Groups) == 0 {
		f.invalid(field.NewPath("spec", "user"), "", "at least one of user or group must be specified")
	}
}

func validateQuestion(f *faults, resource *authorizationv1.ResourceAttributes, url *authorizationv1.NonResourceAttributes) {
	switch {
	case resource != nil && url != nil:
		f.invalid(field.NewPath("spec", "nonResourceAttributes"), url, "cannot be specified in combination with resourceAttributes")
	case resource == nil && url == nil:
		f.invalid(field.NewPath("spec", "resourceAttributes"), resource, "exactly one of nonResourceAttributes or resourceAttributes must be specified")
	}
}

func validateLocalAccess(r *authorizationv1.LocalSubjectAccessReview) field.ErrorList {
	f := &faults{}
	p := field.NewPath("spec")
	validateAccess(f, &r.Spec)
	if a := r.Spec.ResourceAttributes; a != nil && a.Namespace != r.Namespace {
		f.invalid(p.Child("resourceAttributes", "namespace"), a.Namespace, "must match metadata.namespace")
	}
	if a := r.Spec.NonResourceAttributes; a != nil {
		f.invalid(p.Child("nonResourceAttributes"), a, "disallowed on this kind of request")
	}
	return f.list
}

// The kinds below travel in subresources only, so they are no Types.

// DefaultTokenRequest fills in a request for a service account's token.
func DefaultTokenRequest(r *authenticationv1.TokenRequest) { orSet(&r.Spec.ExpirationSeconds, 60*60) }

// ValidateTokenRequest lists the faults of a defaulted token request.
func ValidateTokenRequest(r *authenticationv1.TokenRequest) field.ErrorList {
	f := &faults{}
	at := field.NewPath("spec", "expirationSeconds")
	if n := r.Spec.ExpirationSeconds; n == nil {
		f.required(at, "")
	} else if *n < 10*60 {
		f.invalid(at, *n, "may not specify a duration less than 10 minutes")
	} else if *n > 1<<32 {
		f.invalid(at, *n, "may not specify a duration larger than 2^32 seconds")
	}
	return f.list
}

// ValidateScale lists the faults of a write to the scale subresource.
func ValidateScale(s *autoscalingv1.Scale) field.ErrorList {
	f := &faults{}
	f.add(apivalidation.ValidateObjectMeta(&s.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))...)
	f.nonNegative(field.NewPath("spec", "replicas"), int64(s.Spec.Replicas))
	return f.list
}
