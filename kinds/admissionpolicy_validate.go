// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds of a policy's audit annotations.
const (
	mostAnnotations   = 20
	longestAnnotation = 5 << 10
)

func validateValidatingPolicy(o *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &o.Spec
	validatePolicy(f, p, s.FailurePolicy, s.ParamKind, s.MatchConstraints, s.MatchConditions, s.Variables)
	if len(s.Validations) == 0 && len(s.AuditAnnotations) == 0 {
		const either = "validations or auditAnnotations must contain at least one item"
		f.required(p.Child("validations"), either)
		f.required(p.Child("auditAnnotations"), either)
	}
	for i := range s.Validations {
		validateValidation(f, p.Child("validations").Index(i), &s.Validations[i])
	}
	at, keys := p.Child("auditAnnotations"), unique{}
	if len(s.AuditAnnotations) > mostAnnotations {
		f.invalid(at, s.AuditAnnotations, fmt.Sprintf("must not have more than %d auditAnnotations", mostAnnotations))
	}
	for i, a := range s.AuditAnnotations {
		if o.Name == "" {
			f.invalid(at.Index(i).Child("key"), a.Key, "requires metadata.name be non-empty")
		} else {
			f.each(at.Index(i).Child("key"), o.Name+"/"+a.Key, validation.IsQualifiedName(o.Name+"/"+a.Key))
		}
		keys.check(f, at.Index(i).Child("key"), a.Key)
		switch e := strings.TrimSpace(a.ValueExpression); {
		case e == "":
			f.required(at.Index(i).Child("valueExpression"), "valueExpression is not specified")
		case len(e) > longestAnnotation:
			f.required(at.Index(i).Child("valueExpression"), fmt.Sprintf("must not exceed %d bytes in length", longestAnnotation))
		}
	}
	return f.list
}

func validateMutatingPolicy(o *admissionregistrationv1.MutatingAdmissionPolicy) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &o.Spec
	validatePolicy(f, p, s.FailurePolicy, s.ParamKind, s.MatchConstraints, s.MatchConditions, s.Variables)
	onlyMutable(f, p.Child("matchConstraints"), s.MatchConstraints)
	if len(s.Mutations) == 0 {
		f.required(p.Child("mutations"), "mutations must contain at least one item")
	}
	for i := range s.Mutations {
		validateMutation(f, p.Child("mutations").Index(i), &s.Mutations[i])
	}
	oneOf(f, p.Child("reinvocationPolicy"), s.ReinvocationPolicy, admissionregistrationv1.IfNeededReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
	return f.list
}

// onlyMutable: nothing is left to change in what is deleted.
func onlyMutable(f *faults, p *field.Path, m *admissionregistrationv1.MatchResources) {
	if m == nil {
		return
	}
	for _, r := range m.ResourceRules {
		for _, o := range r.Operations {
			supported(f, p.Child("resourceRules", "operations"), o, admissionregistrationv1.OperationAll, admissionregistrationv1.Connect,
				admissionregistrationv1.Create, admissionregistrationv1.Update)
		}
	}
}

// validatePolicy is what both kinds of policy have in common.
func validatePolicy(f *faults, p *field.Path, failure *admissionregistrationv1.FailurePolicyType, params *admissionregistrationv1.ParamKind,
	match *admissionregistrationv1.MatchResources, conditions []admissionregistrationv1.MatchCondition, variables []admissionregistrationv1.Variable,
) {
	if failure == nil {
		f.required(p.Child("failurePolicy"), "")
	} else {
		supported(f, p.Child("failurePolicy"), *failure, admissionregistrationv1.Fail, admissionregistrationv1.Ignore)
	}
	if params != nil {
		validateParamKind(f, p.Child("paramKind"), params)
	}
	if match == nil {
		f.required(p.Child("matchConstraints"), "")
	} else {
		validateMatch(f, p.Child("matchConstraints"), match)
		if len(match.ResourceRules) == 0 {
			f.required(p.Child("matchConstraints", "resourceRules"), "")
		}
	}
	validateConditions(f, p.Child("matchConditions"), conditions)
	for i, v := range variables {
		at := p.Child("variables").Index(i)
		switch {
		case strings.TrimSpace(v.Name) == "":
			f.required(at.Child("name"), "name is not specified")
		case !isCELIdentifier(v.Name):
			f.invalid(at.Child("name"), v.Name, "must be a valid CEL identifier")
		}
		if strings.TrimSpace(v.Expression) == "" {
			f.required(at.Child("expression"), "expression is not specified")
		}
	}
}

// isCELIdentifier: a name that is no word of the language.
func isCELIdentifier(s string) bool {
	reserved := []string{
		"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
		"loop", "package", "namespace", "return", "var", "void", "while",
	}
	ok, err := regexp.MatchString(`^[_a-zA-Z][_a-zA-Z0-9]*$`, s)
	return err == nil && ok && !slices.Contains(reserved, s)
}

func validateParamKind(f *faults, p *field.Path, k *admissionregistrationv1.ParamKind) {
	if at := p.Child("apiVersion"); f.need(at, k.APIVersion) {
		gv, err := schema.ParseGroupVersion(k.APIVersion)
		switch {
		case err != nil:
			f.invalid(at, k.APIVersion, err.Error())
		default:
			if list := validation.IsDNS1123Subdomain(gv.Group); gv.Group != "" && len(list) > 0 {
				f.invalid(at, gv.Group, strings.Join(list, ","))
			}
			if gv.Version == "" {
				f.invalid(at, k.APIVersion, "version must be specified")
			} else if list := validation.IsDNS1035Label(gv.Version); len(list) > 0 {
				f.invalid(at, gv.Version, strings.Join(list, ","))
			}
		}
	}
	if at := p.Child("kind"); f.need(at, k.Kind) {
		if list := validation.IsDNS1035Label(strings.ToLower(k.Kind)); len(list) > 0 {
			f.invalid(at, k.Kind, "may have mixed case, but should otherwise match: "+strings.Join(list, ","))
		}
	}
}

func validateValidation(f *faults, p *field.Path, v *admissionregistrationv1.Validation) {
	if strings.TrimSpace(v.Expression) == "" {
		f.required(p.Child("expression"), "expression is not specified")
	}
	if v.MessageExpression != "" && strings.TrimSpace(v.MessageExpression) == "" {
		f.invalid(p.Child("messageExpression"), v.MessageExpression, "must be non-empty if specified")
	}
	switch m := strings.TrimSpace(v.Message); {
	case v.Message != "" && m == "":
		f.invalid(p.Child("message"), v.Message, "must be non-empty if specified")
	case strings.ContainsAny(m, "\n\r"):
		f.invalid(p.Child("message"), v.Message, "must not contain line breaks")
	}
	if r := v.Reason; r != nil {
		supported(f, p.Child("reason"), *r, metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonRequestEntityTooLarge)
	}
}

func validateMutation(f *faults, p *field.Path, m *admissionregistrationv1.Mutation) {
	apply, patch := p.Child("applyConfiguration"), p.Child("jsonPatch")
	oneOf(f, p.Child("patchType"), m.PatchType, admissionregistrationv1.PatchTypeApplyConfiguration, admissionregistrationv1.PatchTypeJSONPatch)
	switch m.PatchType {
	case admissionregistrationv1.PatchTypeJSONPatch:
		if m.JSONPatch == nil {
			f.required(patch, "must be specified when patchType is JSONPatch")
		} else {
			f.need(patch.Child("expression"), strings.TrimSpace(m.JSONPatch.Expression))
		}
		if m.ApplyConfiguration != nil {
			f.invalid(apply, "{applyConfiguration}", "must not be specified when patchType is JSONPatch")
		}
	case admissionregistrationv1.PatchTypeApplyConfiguration:
		if m.ApplyConfiguration == nil {
			f.required(apply, "must be specified when patchType is ApplyConfiguration")
		} else {
			f.need(apply.Child("expression"), strings.TrimSpace(m.ApplyConfiguration.Expression))
		}
		if m.JSONPatch != nil {
			f.invalid(patch, "{jsonPatch}", "must not be specified when patchType is ApplyConfiguration")
		}
	}
}

func validateValidatingBinding(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &b.Spec
	validatePolicyBinding(f, p, s.PolicyName, s.ParamRef, s.MatchResources)
	at, seen := p.Child("validationActions"), unique{}
	if len(s.ValidationActions) == 0 {
		f.required(at, "at least one validation action is required")
	}
	for i, a := range s.ValidationActions {
		supported(f, at.Index(i), a, admissionregistrationv1.Audit, admissionregistrationv1.Deny, admissionregistrationv1.Warn)
		seen.check(f, at.Index(i), string(a))
	}
	if seen[string(admissionregistrationv1.Deny)] && seen[string(admissionregistrationv1.Warn)] {
		f.invalid(at, s.ValidationActions, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)")
	}
	return f.list
}

func validateMutatingBinding(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) field.ErrorList {
	f := &faults{}
	p, s := field.NewPath("spec"), &b.Spec
	validatePolicyBinding(f, p, s.PolicyName, s.ParamRef, s.MatchResources)
	onlyMutable(f, p.Child("matchResources"), s.MatchResources)
	return f.list
}

func validatePolicyBinding(f *faults, p *field.Path, policy string, r *admissionregistrationv1.ParamRef, m *admissionregistrationv1.MatchResources) {
	if f.need(p.Child("policyName"), policy) {
		f.each(p.Child("policyName"), policy, validation.IsDNS1123Subdomain(policy))
	}
	if m != nil {
		validateMatch(f, p.Child("matchResources"), m)
	}
	if r == nil {
		return
	}
	at := p.Child("paramRef")
	const one = "name and selector are mutually exclusive"
	if r.Name != "" {
		f.each(at.Child("name"), r.Name, pathSegment(r.Name, false))
	}
	if r.Selector != nil {
		validateSelector(f, at.Child("selector"), r.Selector)
	}
	switch {
	case r.Name != "" && r.Selector != nil:
		f.forbidden(at.Child("name"), one)
		f.forbidden(at.Child("selector"), one)
	case r.Name == "" && r.Selector == nil:
		f.required(at, "one of name or selector must be specified")
	}
	oneOf(f, at.Child("parameterNotFoundAction"), either(r.ParameterNotFoundAction, ""), admissionregistrationv1.DenyAction, admissionregistrationv1.AllowAction)
}

func validatePolicyStatus(new, _ *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList {
	f := &faults{}
	p := field.NewPath("status")
	if t := new.Status.TypeChecking; t != nil {
		for i, w := range t.ExpressionWarnings {
			at := p.Child("typeChecking", "expressionWarnings").Index(i)
			f.need(at.Child("warning"), w.Warning)
			f.need(at.Child("fieldRef"), strings.TrimSpace(w.FieldRef))
		}
	}
	f.add(metavalidation.ValidateConditions(new.Status.Conditions, p.Child("conditions"))...)
	return f.list
}
