// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"google.golang.org/protobuf/types/known/structpb"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/managedfields"
	applyconfigurations "k8s.io/client-go/applyconfigurations"

	"github.com/knarr/knarr/apiserver/expr"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// mutatingPolicies change objects by expressions: MutatingAdmissionPolicies, before webhooks are asked.
func mutatingPolicies(x *hooks) Step {
	shapes := sync.OnceValue(func() managedfields.TypeConverter { return applyconfigurations.NewTypeConverter(kinds.Scheme()) })
	return Step{Name: "MutatingAdmissionPolicy", Mutate: func(ctx context.Context, r *Request) error {
		if exemptFromHooks(r) || r.Object == nil {
			return nil
		}
		s := x.state.Snapshot()
		for p := range cache.List[admissionregistrationv1.MutatingAdmissionPolicy](s, "") {
			key := "policy/" + p.Name
			if r.again {
				seen, ran := r.seen[key]
				if p.Spec.ReinvocationPolicy != admissionregistrationv1.IfNeededReinvocationPolicy || ran && equality.Semantic.DeepEqual(seen, r.Object) {
					continue
				}
			}
			if err := x.mutateBy(ctx, s, p, r, shapes); err != nil {
				return err
			}
			if r.seen == nil {
				r.seen = map[string]kinds.Object{}
			}
			r.seen[key] = r.Object.DeepCopyObject().(kinds.Object)
		}
		return nil
	}}
}

func (x *hooks) mutateBy(ctx context.Context, s *cache.Snapshot, p *admissionregistrationv1.MutatingAdmissionPolicy, r *Request, shapes func() managedfields.TypeConverter) error {
	v, ok, err := x.constrained(s, p.Spec.MatchConstraints, r)
	if !ok || err != nil {
		return err
	}
	fails := p.Spec.FailurePolicy == nil || *p.Spec.FailurePolicy == admissionregistrationv1.Fail
	for b := range cache.List[admissionregistrationv1.MutatingAdmissionPolicyBinding](s, "") {
		if b.Spec.PolicyName != p.Name {
			continue
		}
		if _, ok, err := x.constrained(s, b.Spec.MatchResources, r); !ok || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		params, deny, err := paramsOf(s, p.Spec.ParamKind, b.Spec.ParamRef, r)
		if deny != "" {
			err = errors.New(deny)
		}
		for i := 0; err == nil && i < len(params); i++ {
			var in *expr.Input
			if in, err = input(s, x.authz, r, v); err != nil {
				break
			}
			in.Params = params[i]
			err = x.mutations(ctx, p, in, r, v, shapes)
		}
		if err != nil && fails {
			return apierrors.NewForbidden(r.Type.Resource().GroupResource(), r.Name,
				fmt.Errorf("policy '%s' with binding '%s' denied request: %w", p.Name, b.Name, err))
		}
	}
	return nil
}

// mutations applies a policy's mutations in order; each sees what the one before did.
func (x *hooks) mutations(ctx context.Context, p *admissionregistrationv1.MutatingAdmissionPolicy, in *expr.Input, r *Request, v *kinds.Version, shapes func() managedfields.TypeConverter) error {
	met, err := meets(ctx, x.compiler, p.Spec.MatchConditions, in)
	if err != nil || !met {
		return err
	}
	for i := range p.Spec.Mutations {
		in.ResetVariables()
		for _, variable := range p.Spec.Variables {
			in.AddVariable(ctx, variable.Name, x.compiler.Compile(variable.Expression, expr.Any))
		}
		before, err := asVersion(r, r.Object, v)
		if err != nil {
			return err
		}
		var after []byte
		switch m := p.Spec.Mutations[i]; {
		case m.ApplyConfiguration != nil:
			after, err = x.applied(ctx, m.ApplyConfiguration.Expression, in, r, v, shapes())
		case m.JSONPatch != nil:
			after, err = x.jsonPatched(ctx, m.JSONPatch.Expression, in, before)
		default:
			err = fmt.Errorf("mutation %d has neither applyConfiguration nor jsonPatch", i)
		}
		if err != nil {
			return err
		}
		next, err := fromVersion(r, after, v)
		if err != nil {
			return err
		}
		if !equality.Semantic.DeepEqual(next, r.Object) {
			r.Object, r.changed = next, true
		}
		if in.Object, err = objectMap(r, r.Object, v); err != nil {
			return err
		}
	}
	return nil
}

func (x *hooks) jsonPatched(ctx context.Context, expression string, in *expr.Input, before []byte) ([]byte, error) {
	val, err := x.compiler.Compile(expression, expr.JSONPatch).Run(ctx, in)
	if err != nil {
		return nil, err
	}
	list, err := expr.Patches(val)
	if err != nil {
		return nil, err
	}
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		From  string `json:"from,omitempty"`
		Value any    `json:"value,omitempty"`
	}
	var ops []operation
	for _, p := range list {
		o := operation{Op: p.Op, Path: p.Path, From: p.From}
		if p.Val != nil {
			native, err := p.Val.ConvertToNative(reflect.TypeFor[*structpb.Value]())
			if err != nil {
				return nil, fmt.Errorf("value of %s: %w", p.Path, err)
			}
			o.Value = native.(*structpb.Value)
		}
		ops = append(ops, o)
	}
	raw, err := json.Marshal(ops)
	if err != nil {
		return nil, err
	}
	patch, err := jsonpatch.DecodePatch(raw)
	if err != nil {
		return nil, err
	}
	after, err := patch.Apply(before)
	if errors.Is(err, jsonpatch.ErrTestFailed) {
		return before, nil // a test that fails means: not this object
	}
	return after, err
}

// applied merges what Object{…} came to as server-side apply would, without taking ownership of fields.
func (x *hooks) applied(ctx context.Context, expression string, in *expr.Input, r *Request, v *kinds.Version, shapes managedfields.TypeConverter) ([]byte, error) {
	val, err := x.compiler.Compile(expression, expr.Object).Run(ctx, in)
	if err != nil {
		return nil, err
	}
	native, err := val.ConvertToNative(reflect.TypeFor[*structpb.Value]())
	if err != nil {
		return nil, fmt.Errorf("the expression came to no object: %w", err)
	}
	config, ok := native.(*structpb.Value).AsInterface().(map[string]any)
	if !ok {
		return nil, errors.New("the expression came to no object")
	}
	config["apiVersion"], config["kind"] = v.GroupVersion().String(), v.Kind
	now, err := objectMap(r, r.Object, v)
	if err != nil {
		return nil, err
	}
	live, err := shapes.ObjectToTyped(&unstructured.Unstructured{Object: now})
	if err != nil {
		return nil, err
	}
	change, err := shapes.ObjectToTyped(&unstructured.Unstructured{Object: config})
	if err != nil {
		return nil, fmt.Errorf("invalid ApplyConfiguration: %w", err)
	}
	merged, err := live.Merge(change)
	if err != nil {
		return nil, fmt.Errorf("merge the ApplyConfiguration: %w", err)
	}
	out, err := shapes.TypedToObject(merged)
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}
