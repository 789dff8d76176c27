// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
)

// The kinds that ask a question or give an order and are never stored.
var (
	Binding = Kind[corev1.Binding]{
		Version: "v1", Name: "Binding", Plural: "bindings", Virtual: true, NoGeneration: true,
	}
	TokenReview = Kind[authenticationv1.TokenReview]{
		Group: "authentication.k8s.io", Version: "v1", Name: "TokenReview", Plural: "tokenreviews",
		Cluster: true, Virtual: true, NoGeneration: true,
	}
	SelfSubjectReview = Kind[authenticationv1.SelfSubjectReview]{
		Group: "authentication.k8s.io", Version: "v1", Name: "SelfSubjectReview", Plural: "selfsubjectreviews",
		Cluster: true, Virtual: true, NoGeneration: true,
	}
	SubjectAccessReview = Kind[authorizationv1.SubjectAccessReview]{
		Group: "authorization.k8s.io", Version: "v1", Name: "SubjectAccessReview", Plural: "subjectaccessreviews",
		Cluster: true, Virtual: true, NoGeneration: true,
	}
	SelfSubjectAccessReview = Kind[authorizationv1.SelfSubjectAccessReview]{
		Group: "authorization.k8s.io", Version: "v1", Name: "SelfSubjectAccessReview", Plural: "selfsubjectaccessreviews",
		Cluster: true, Virtual: true, NoGeneration: true,
	}
	SelfSubjectRulesReview = Kind[authorizationv1.SelfSubjectRulesReview]{
		Group: "authorization.k8s.io", Version: "v1", Name: "SelfSubjectRulesReview", Plural: "selfsubjectrulesreviews",
		Cluster: true, Virtual: true, NoGeneration: true,
	}
	LocalSubjectAccessReview = Kind[authorizationv1.LocalSubjectAccessReview]{
		Group: "authorization.k8s.io", Version: "v1", Name: "LocalSubjectAccessReview", Plural: "localsubjectaccessreviews",
		Virtual: true, NoGeneration: true,
	}
)
