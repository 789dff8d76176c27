// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/knarr/knarr/apiserver/auth"
)

// noEscalation: nobody writes a role with more than he may do himself (or the verb escalate on it), nor binds one (or the
// verb bind).
func noEscalation(z *auth.Authorizer) Step {
	return Step{Name: "RBACEscalation", Validate: func(_ context.Context, r *Request) error {
		if r.Type.Group != rbacv1.GroupName || r.Verb == Delete || r.User.In(auth.Masters) {
			return nil
		}
		switch obj := r.Object.(type) {
		case *rbacv1.Role:
			old, _ := r.Old.(*rbacv1.Role)
			if old != nil && equality.Semantic.DeepEqual(old.Rules, obj.Rules) {
				return nil
			}
			return mayGrant(z, r, "escalate", r.Type.Plural, r.Name, obj.Rules)
		case *rbacv1.ClusterRole:
			old, _ := r.Old.(*rbacv1.ClusterRole)
			if old != nil && equality.Semantic.DeepEqual(old.Rules, obj.Rules) && equality.Semantic.DeepEqual(old.AggregationRule, obj.AggregationRule) {
				return nil
			}
			rules := obj.Rules
			if obj.AggregationRule != nil {
				// What it selects may grow: only who may do everything may let it.
				rules = []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}}
			}
			return mayGrant(z, r, "escalate", r.Type.Plural, r.Name, rules)
		case *rbacv1.RoleBinding:
			return mayBind(z, r, obj.RoleRef)
		case *rbacv1.ClusterRoleBinding:
			return mayBind(z, r, obj.RoleRef)
		}
		return nil
	}}
}

func mayBind(z *auth.Authorizer, r *Request, ref rbacv1.RoleRef) error {
	plural := "clusterroles"
	if ref.Kind == "Role" {
		plural = "roles"
	}
	return mayGrant(z, r, "bind", plural, ref.Name, auth.RoleRules(z.State.Snapshot(), ref, r.Namespace))
}

func mayGrant(z *auth.Authorizer, r *Request, verb, resource, name string, rules []rbacv1.PolicyRule) error {
	ok, _ := z.Authorize(auth.Attributes{
		User: r.User, Verb: verb, Group: rbacv1.GroupName, Version: "v1", Resource: resource, Namespace: r.Namespace, Name: name,
	})
	if ok {
		return nil
	}
	missing := z.Uncovered(r.User, r.Namespace, rules)
	if len(missing) == 0 {
		return nil
	}
	var list []string
	for _, m := range missing {
		list = append(list, fmt.Sprintf("{APIGroups:%q, Resources:%q, NonResourceURLs:%q, Verbs:%q}", m.APIGroups, m.Resources, m.NonResourceURLs, m.Verbs))
	}
	return forbidden(r, "user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s", r.User.Name, r.User.Groups, strings.Join(list, "\n"))
}
