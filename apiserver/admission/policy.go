// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/knarr/knarr/apiserver/expr"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// validatingPolicies judge by expressions: ValidatingAdmissionPolicies, each as often as bindings and parameters say.
func validatingPolicies(x *hooks) Step {
	return Step{Name: "ValidatingAdmissionPolicy", Connects: true, Validate: func(ctx context.Context, r *Request) error {
		if exemptFromHooks(r) {
			return nil
		}
		s := x.state.Snapshot()
		for p := range cache.List[admissionregistrationv1.ValidatingAdmissionPolicy](s, "") {
			v, ok, err := x.constrained(s, p.Spec.MatchConstraints, r)
			if err == nil && ok {
				err = x.judgeBy(ctx, s, p, r, v)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}}
}

// constrained reports whether a policy or binding is about r, and in which version it sees the object.
func (x *hooks) constrained(s *cache.Snapshot, m *admissionregistrationv1.MatchResources, r *Request) (*kinds.Version, bool, error) {
	if m == nil {
		return r.version(), true, nil
	}
	if ok, err := matchSelectors(s, m.NamespaceSelector, m.ObjectSelector, r); !ok || err != nil {
		return nil, false, err
	}
	if _, excluded := matchNamed(m.ExcludeResourceRules, m.MatchPolicy, r); excluded {
		return nil, false, nil
	}
	if len(m.ResourceRules) == 0 {
		return r.version(), true, nil
	}
	v, ok := matchNamed(m.ResourceRules, m.MatchPolicy, r)
	return v, ok, nil
}

func matchNamed(rules []admissionregistrationv1.NamedRuleWithOperations, policy *admissionregistrationv1.MatchPolicyType, r *Request) (*kinds.Version, bool) {
	var plain []rule
	for _, n := range rules {
		if len(n.ResourceNames) == 0 || slices.Contains(n.ResourceNames, r.Name) {
			plain = append(plain, n.RuleWithOperations)
		}
	}
	return matchRules(plain, policy, r)
}

// judgeBy runs one policy under each of its bindings and parameters.
func (x *hooks) judgeBy(ctx context.Context, s *cache.Snapshot, p *admissionregistrationv1.ValidatingAdmissionPolicy, r *Request, v *kinds.Version) error {
	fails := p.Spec.FailurePolicy == nil || *p.Spec.FailurePolicy == admissionregistrationv1.Fail
	for b := range cache.List[admissionregistrationv1.ValidatingAdmissionPolicyBinding](s, "") {
		if b.Spec.PolicyName != p.Name {
			continue
		}
		if _, ok, err := x.constrained(s, b.Spec.MatchResources, r); !ok || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		at := &verdict{r: r, policy: p.Name, binding: b.Name, actions: b.Spec.ValidationActions}
		params, deny, err := paramsOf(s, p.Spec.ParamKind, b.Spec.ParamRef, r)
		if err != nil || deny != "" {
			if err == nil {
				err = errors.New(deny)
			}
			if fails {
				return at.refuse("failed to configure binding: "+err.Error(), metav1.StatusReasonInvalid)
			}
			continue
		}
		for _, param := range params {
			in, err := input(s, x.authz, r, v)
			if err != nil {
				return err
			}
			in.Params = param
			if err := x.evaluate(ctx, p, in, at, fails); err != nil {
				return err
			}
		}
		at.finish()
	}
	return nil
}

// evaluate runs a policy's conditions, validations and annotations once.
func (x *hooks) evaluate(ctx context.Context, p *admissionregistrationv1.ValidatingAdmissionPolicy, in *expr.Input, at *verdict, fails bool) error {
	met, err := meets(ctx, x.compiler, p.Spec.MatchConditions, in)
	if err != nil {
		if !fails {
			return nil
		}
		return at.act(err.Error(), metav1.StatusReasonInvalid)
	}
	if !met {
		return nil
	}
	for _, variable := range p.Spec.Variables {
		in.AddVariable(ctx, variable.Name, x.compiler.Compile(variable.Expression, expr.Any))
	}
	for i := range p.Spec.Validations {
		if err := x.validation(ctx, &p.Spec.Validations[i], in, at, fails); err != nil {
			return err
		}
	}
	for _, a := range p.Spec.AuditAnnotations {
		text, err := x.compiler.Compile(a.ValueExpression, expr.Text).Text(ctx, in)
		if err != nil && fails {
			return at.act(fmt.Sprintf("auditAnnotation %q: %v", a.Key, err), metav1.StatusReasonInvalid)
		}
		if err == nil && text != "" {
			at.r.Note(p.Name+"/"+a.Key, text)
		}
	}
	return nil
}

func (x *hooks) validation(ctx context.Context, v *admissionregistrationv1.Validation, in *expr.Input, at *verdict, fails bool) error {
	ok, err := x.compiler.Compile(v.Expression, expr.Bool).Bool(ctx, in)
	if err != nil {
		if !fails {
			return nil
		}
		return at.act(err.Error(), metav1.StatusReasonInvalid)
	}
	if ok {
		return nil
	}
	message := v.Message
	if v.MessageExpression != "" {
		// A message that cannot be made is no reason to let anything in.
		if text, err := x.compiler.Compile(v.MessageExpression, expr.Text).Text(ctx, in); err == nil && text != "" && len(text) <= maxMessage {
			message = text
		}
	}
	if message == "" {
		message = "failed expression: " + v.Expression
	}
	reason := metav1.StatusReasonInvalid
	if v.Reason != nil && *v.Reason != "" {
		reason = *v.Reason
	}
	return at.act(message, reason)
}

// maxMessage bounds what a messageExpression may come to.
const maxMessage = 5 << 10

// verdict is where the failures of one policy under one binding go.
type verdict struct {
	r               *Request
	policy, binding string
	actions         []admissionregistrationv1.ValidationAction
	audited         []auditedFailure
}

// auditedFailure is one element of the audit annotation, as upstream writes it.
type auditedFailure struct {
	Message string                                     `json:"message"`
	Policy  string                                     `json:"policy"`
	Binding string                                     `json:"binding"`
	Actions []admissionregistrationv1.ValidationAction `json:"validationActions"`
}

// act does what the binding says about a failure. An error is a refusal.
func (v *verdict) act(message string, reason metav1.StatusReason) error {
	var refusal error
	for _, a := range v.actions {
		switch a {
		case admissionregistrationv1.Deny:
			refusal = v.refuse(message, reason)
		case admissionregistrationv1.Warn:
			v.r.Warn(fmt.Sprintf("Validation failed for ValidatingAdmissionPolicy '%s' with binding '%s': %s", v.policy, v.binding, message))
		case admissionregistrationv1.Audit:
			v.audited = append(v.audited, auditedFailure{message, v.policy, v.binding, v.actions})
		}
	}
	return refusal
}

func (v *verdict) refuse(message string, reason metav1.StatusReason) error {
	text := fmt.Sprintf("ValidatingAdmissionPolicy '%s' with binding '%s' denied request: %s", v.policy, v.binding, message)
	err := apierrors.NewForbidden(v.r.Type.Resource().GroupResource(), v.r.Name, errors.New(text))
	err.ErrStatus.Reason = reason
	err.ErrStatus.Code = http.StatusUnprocessableEntity
	switch reason {
	case metav1.StatusReasonForbidden:
		err.ErrStatus.Code = http.StatusForbidden
	case metav1.StatusReasonUnauthorized:
		err.ErrStatus.Code = http.StatusUnauthorized
	case metav1.StatusReasonRequestEntityTooLarge:
		err.ErrStatus.Code = http.StatusRequestEntityTooLarge
	}
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Message: message})
	return err
}

func (v *verdict) finish() {
	if len(v.audited) == 0 {
		return
	}
	if raw, err := json.Marshal(v.audited); err == nil {
		v.r.Note("validation.policy.admission.k8s.io/validation_failure", string(raw))
	}
}

// paramsOf are the parameters that a binding names: one nil when it needs none. deny says why there must be one and is none.
func paramsOf(s *cache.Snapshot, kind *admissionregistrationv1.ParamKind, ref *admissionregistrationv1.ParamRef, r *Request) (params []map[string]any, deny string, err error) {
	if kind == nil || ref == nil {
		return []map[string]any{nil}, "", nil
	}
	gv, err := schema.ParseGroupVersion(kind.APIVersion)
	if err != nil {
		return nil, "", err
	}
	t, ok := s.TypeOfKind(schema.GroupKind{Group: gv.Group, Kind: kind.Kind})
	if !ok {
		return nil, "", fmt.Errorf("params kind %s %s is not known", kind.APIVersion, kind.Kind)
	}
	version := &t.Served[0]
	for i := range t.Served {
		if t.Served[i].GroupVersion() == gv {
			version = &t.Served[i]
		}
	}
	namespace := ref.Namespace
	switch {
	case t.Cluster:
		namespace = ""
	case namespace == "" && r.Type.Cluster:
		return nil, "", errors.New("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
	case namespace == "":
		namespace = r.Namespace
	}
	var found []*cache.Entry
	if ref.Name != "" {
		if e, ok := s.Get(t, namespace, ref.Name); ok {
			found = append(found, e)
		}
	} else if ref.Selector != nil {
		sel, err := metav1.LabelSelectorAsSelector(ref.Selector)
		if err != nil {
			return nil, "", err
		}
		for e := range s.List(t, namespace) {
			if sel.Matches(labels.Set(e.Object.GetLabels())) {
				found = append(found, e)
			}
		}
	}
	if len(found) == 0 {
		if ref.ParameterNotFoundAction == nil || *ref.ParameterNotFoundAction == admissionregistrationv1.DenyAction {
			return nil, "no params found for policy binding with `Deny` parameterNotFoundAction", nil
		}
		return nil, "", nil
	}
	for _, e := range found {
		obj := version.FromHub(e.Object.DeepCopyObject().(kinds.Object))
		obj.GetObjectKind().SetGroupVersionKind(version.GroupVersionKind)
		raw, err := json.Marshal(obj)
		if err != nil {
			return nil, "", err
		}
		var m map[string]any
		if err := utiljson.Unmarshal(raw, &m); err != nil {
			return nil, "", err
		}
		params = append(params, m)
	}
	return params, "", nil
}
