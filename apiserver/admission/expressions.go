// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/knarr/knarr/apiserver/expr"
	"github.com/knarr/knarr/kinds"
)

// expressions refuses webhooks and policies with an expression that does not compile. It is validation, of the part that
// needs a compiler; the rest is in kinds. An expression that was stored already is not judged again: a newer compiler must
// not make an object unchangeable.
func expressions(c *expr.Compiler) Step {
	return Step{Name: "Expressions", Validate: func(_ context.Context, r *Request) error {
		if r.Object == nil || r.Subresource != "" {
			return nil
		}
		known := map[string]bool{}
		for _, e := range expressionsOf(r.Old) {
			known[e.text] = true
		}
		var faults field.ErrorList
		for _, e := range expressionsOf(r.Object) {
			if e.text == "" || known[e.text] {
				continue
			}
			if err := c.Check(e.text, e.kind, e.params); err != nil {
				faults = append(faults, field.Invalid(e.at, e.text, err.Error()))
			}
		}
		if len(faults) == 0 {
			return nil
		}
		return apierrors.NewInvalid(r.Type.GroupKind(), r.Object.GetName(), faults)
	}}
}

// expression is one, with where it stands and what it must come to.
type expression struct {
	at     *field.Path
	text   string
	kind   expr.Kind
	params bool // it may speak of parameters
}

// expressionsOf lists what is to be compiled in o; nothing for any other kind of object, and for nil.
func expressionsOf(o kinds.Object) (list []expression) {
	spec := field.NewPath("spec")
	conditions := func(at *field.Path, params bool, of []admissionregistrationv1.MatchCondition) {
		for i, c := range of {
			list = append(list, expression{at.Child("matchConditions").Index(i).Child("expression"), c.Expression, expr.Bool, params})
		}
	}
	variables := func(params bool, of []admissionregistrationv1.Variable) {
		for i, v := range of {
			list = append(list, expression{spec.Child("variables").Index(i).Child("expression"), v.Expression, expr.Any, params})
		}
	}
	switch o := o.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		for i, w := range o.Webhooks {
			conditions(field.NewPath("webhooks").Index(i), false, w.MatchConditions)
		}
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		for i, w := range o.Webhooks {
			conditions(field.NewPath("webhooks").Index(i), false, w.MatchConditions)
		}
	case *admissionregistrationv1.ValidatingAdmissionPolicy:
		params := o.Spec.ParamKind != nil
		conditions(spec, params, o.Spec.MatchConditions)
		variables(params, o.Spec.Variables)
		for i, v := range o.Spec.Validations {
			at := spec.Child("validations").Index(i)
			list = append(list, expression{at.Child("expression"), v.Expression, expr.Bool, params},
				expression{at.Child("messageExpression"), v.MessageExpression, expr.Text, params})
		}
		for i, a := range o.Spec.AuditAnnotations {
			list = append(list, expression{spec.Child("auditAnnotations").Index(i).Child("valueExpression"), a.ValueExpression, expr.Text, params})
		}
	case *admissionregistrationv1.MutatingAdmissionPolicy:
		params := o.Spec.ParamKind != nil
		conditions(spec, params, o.Spec.MatchConditions)
		variables(params, o.Spec.Variables)
		for i, m := range o.Spec.Mutations {
			at := spec.Child("mutations").Index(i)
			if m.ApplyConfiguration != nil {
				list = append(list, expression{at.Child("applyConfiguration", "expression"), m.ApplyConfiguration.Expression, expr.Object, params})
			}
			if m.JSONPatch != nil {
				list = append(list, expression{at.Child("jsonPatch", "expression"), m.JSONPatch.Expression, expr.JSONPatch, params})
			}
		}
	}
	return list
}
