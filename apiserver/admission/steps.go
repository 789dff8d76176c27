// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/apiserver/expr"
	"github.com/knarr/knarr/apiserver/webhook"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// Config is what the steps work with. Authorizer, State and Now must be set.
type Config struct {
	Authorizer *auth.Authorizer
	State      cache.Reader
	Now        func() time.Time
	Webhooks   *webhook.Client // nil: no webhook is reachable
	// AutoProvision makes a missing namespace instead of refusing what is to live in it; off, as upstream's is.
	AutoProvision func(ctx context.Context, namespace string) error
	// Tell says something about an object to people, as an event; nil: nobody listens.
	Tell func(about kinds.Object, reason, message string)
}

// Steps are all steps of Knarr. The order is the order in which they run:
//   - NamespaceLifecycle first: nothing else need look at a write that has no place to go.
//   - What fills in defaults comes before what judges them: LimitRanger before ResourceQuota, Priority and RuntimeClass
//     before what counts priorities and overheads.
//   - ServiceAccount before anything that looks at volumes; PodPreset after it, so that a preset cannot take its mount path.
//   - MutatingAdmissionWebhook after all that fills in; what it changes is shown to all of them once more.
//   - Expressions is validation that needs a compiler, so it stands first among those that only judge.
//   - PodSecurity, NodeRestriction and the other judges only validate: they see the final object.
//   - ValidatingAdmissionWebhook asks strangers, so only about what our own steps would let in.
//   - ResourceQuota last: what it counts is written with the object, and nothing may refuse after it.
func Steps(c Config) Chain {
	if c.Webhooks == nil {
		c.Webhooks = webhook.New(nil)
	}
	x := &hooks{state: c.State, authz: c.Authorizer, client: c.Webhooks, compiler: &expr.Compiler{}}
	return Chain{
		namespaceLifecycle(c.AutoProvision),
		limitRanger(c.State),
		serviceAccount(),
		defaultStorageClass(c.State),
		defaultTolerationSeconds(),
		priority(c.State),
		runtimeClass(),
		podPreset(c.State, c.Tell),
		mutatingPolicies(x),
		mutatingWebhooks(x),
		expressions(x.compiler),
		podSecurity(c.State),
		nodeRestriction(),
		ownerReferencesPermission(c.Authorizer),
		storageInUse(),
		certificateRequester(),
		certificateApproval(c.Authorizer),
		certificateSigning(c.Authorizer),
		certificateSubject(),
		noEscalation(c.Authorizer),
		validatingPolicies(x),
		validatingWebhooks(x),
		resourceQuota(c.State, c.Now),
	}
}

// newPod is the pod that r creates, if it creates one.
func newPod(r *Request) (*corev1.Pod, bool) {
	pod, ok := r.Object.(*corev1.Pod)
	return pod, ok && r.Verb == Create && r.Subresource == ""
}
