// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"context"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	"k8s.io/apimachinery/pkg/runtime/schema"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	apicel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/lazy"
	"k8s.io/apiserver/pkg/cel/library"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/internal/errs"
)

// Input is what expressions see, and what they may still cost. It belongs to one request and one goroutine.
type Input struct {
	Object, Old, Params, Request, Namespace map[string]any // nil: null
	User                                    auth.User
	Authorizer                              *auth.Authorizer
	Resource                                auth.Attributes // what the request is about, for authorizer.requestResource
	Budget                                  int64           // 0: upstream's for one object

	spent     int64
	variables *lazy.MapValue
}

// AddVariable defines variables.name, run when it is first used.
func (in *Input) AddVariable(ctx context.Context, name string, p *Program) {
	if in.variables == nil {
		in.variables = lazy.NewMapValue(apicel.NewObjectType("kubernetes.variables", nil))
	}
	in.variables.Append(name, func(*lazy.MapValue) ref.Val {
		v, err := p.Run(ctx, in)
		if err != nil {
			return types.NewErr("composited variable %q fails to evaluate: %v", name, err)
		}
		return v
	})
}

// ResetVariables forgets the variables: the object changed.
func (in *Input) ResetVariables() { in.variables = nil }

func (in *Input) spend(cost uint64) error {
	budget := in.Budget
	if budget == 0 {
		budget = celconfig.RuntimeCELCostBudget
	}
	in.spent += int64(min(cost, uint64(budget)+1))
	if in.spent > budget {
		return errs.New(errs.Invalid, "validation failed due to running out of cost budget, no further validation rules will be run")
	}
	return nil
}

func (in *Input) activation() interpreter.Activation { return activation{in} }

// activation answers for the variables' names.
type activation struct{ in *Input }

func (a activation) Parent() interpreter.Activation { return nil }

func (a activation) ResolveName(name string) (any, bool) {
	in := a.in
	value := func(m map[string]any) (any, bool) {
		if m == nil {
			return nil, true
		}
		return m, true
	}
	switch name {
	case varObject:
		return value(in.Object)
	case varOld:
		return value(in.Old)
	case varParams:
		return value(in.Params)
	case varRequest:
		return value(in.Request)
	case varNamespace:
		return value(in.Namespace)
	case varVariables:
		if in.variables == nil {
			return map[string]any{}, true
		}
		return in.variables, true
	case varAuthz:
		return library.NewAuthorizerVal(userOf(in.User), asAuthorizer{in.Authorizer}), true
	case varAuthzRes:
		r := in.Resource
		return library.NewResourceAuthorizerVal(userOf(in.User), asAuthorizer{in.Authorizer}, resource{r}), true
	}
	return nil, false
}

func userOf(u auth.User) user.Info {
	return &user.DefaultInfo{Name: u.Name, UID: u.UID, Groups: u.Groups, Extra: u.Extra}
}

// resource is the request's, as the library asks for it.
type resource struct{ a auth.Attributes }

func (r resource) GetName() string      { return r.a.Name }
func (r resource) GetNamespace() string { return r.a.Namespace }
func (r resource) GetResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: r.a.Group, Version: r.a.Version, Resource: r.a.Resource}
}
func (r resource) GetSubresource() string { return r.a.Subresource }

// asAuthorizer is our authorizer under the library's interface.
type asAuthorizer struct{ z *auth.Authorizer }

func (a asAuthorizer) Authorize(_ context.Context, q authorizer.Attributes) (authorizer.Decision, string, error) {
	at := auth.Attributes{
		User: auth.User{Name: q.GetUser().GetName(), UID: q.GetUser().GetUID(), Groups: q.GetUser().GetGroups(), Extra: q.GetUser().GetExtra()},
		Verb: q.GetVerb(), Group: q.GetAPIGroup(), Version: q.GetAPIVersion(), Resource: q.GetResource(), Subresource: q.GetSubresource(),
		Namespace: q.GetNamespace(), Name: q.GetName(),
	}
	if !q.IsResourceRequest() {
		at.Path = q.GetPath()
	}
	if ok, reason := a.z.Authorize(at); ok {
		return authorizer.DecisionAllow, reason, nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}
