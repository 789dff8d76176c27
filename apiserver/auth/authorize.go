// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"

	"github.com/knarr/knarr/state/cache"
)

// Attributes are what is asked: may User do Verb to this resource, or to this path.
type Attributes struct {
	User User
	Verb string

	Group, Version, Resource, Subresource string
	Namespace, Name                       string
	NodeField                             string // the node a field selector narrows pods to (spec.nodeName=)
	Path                                  string // instead of a resource: /healthz
}

// Authorizer answers by system:masters, the Node rules and RBAC, in that order; the first that allows wins.
type Authorizer struct {
	State cache.Reader
	// Remote is asked by Allows when nobody here allowed; nil: nobody else is asked.
	Remote func(ctx context.Context, a Attributes) (allowed bool, reason string)
}

// Allows is Authorize that also asks the authorization webhook, if there is one.
func (z *Authorizer) Allows(ctx context.Context, a Attributes) (ok bool, reason string) {
	if ok, reason = z.Authorize(a); ok || z.Remote == nil {
		return ok, reason
	}
	return z.Remote(ctx, a)
}

// Authorize reports whether a is allowed; reason says why, or why nobody allowed it ("" for RBAC: it just has no rule).
func (z *Authorizer) Authorize(a Attributes) (ok bool, reason string) {
	if a.User.In(Masters) {
		return true, ""
	}
	s := z.State.Snapshot()
	if node, isNode := NodeName(a.User); isNode {
		if ok, reason = nodeAllows(s, node, a); ok {
			return true, reason
		}
	}
	by, found := rbacAllows(s, a)
	if found {
		return true, by
	}
	return false, reason
}
