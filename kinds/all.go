// SPDX-License-Identifier: Apache-2.0

package kinds

// All lists the stored kinds, in the order in which discovery shows them: the core group as upstream prints it, then the
// other groups. Where a word means two kinds ("events"), the first wins.
var All = []*Type{
	ConfigMap.Type(),
	Endpoints.Type(),
	Event.Type(),
	Namespace.Type(),
	Node.Type(),
	Pod.Type(),
	Secret.Type(),
	ServiceAccount.Type(),
	Service.Type(),
	Deployment.Type(),
	ReplicaSet.Type(),
	Lease.Type(),
	EndpointSlice.Type(),
	ClusterRoleBinding.Type(),
	ClusterRole.Type(),
	RoleBinding.Type(),
	Role.Type(),
	PodPreset.Type(),
}

// Virtual lists the kinds that have a resource of their own but are answered, never stored: only Create makes sense.
// Kinds that only travel in subresources (Scale, Eviction, TokenRequest, PodLogOptions) are in Scheme alone.
var Virtual = []*Type{
	Binding.Type(),
	TokenReview.Type(),
	SelfSubjectReview.Type(),
	SubjectAccessReview.Type(),
	SelfSubjectAccessReview.Type(),
	SelfSubjectRulesReview.Type(),
	LocalSubjectAccessReview.Type(),
}
