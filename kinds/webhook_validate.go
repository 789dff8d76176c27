// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Expressions are judged by apiserver/admission, which has a compiler; here only that they are there, and named.

func validateMutatingWebhooks(c *admissionregistrationv1.MutatingWebhookConfiguration) field.ErrorList {
	f, names := &faults{}, unique{}
	for i := range c.Webhooks {
		w, p := &c.Webhooks[i], field.NewPath("webhooks").Index(i)
		// What both kinds of webhook say is judged in one place; the conversion compiles only while they say the same.
		validateWebhook(f, p, &admissionregistrationv1.ValidatingWebhook{
			Name: w.Name, ClientConfig: w.ClientConfig, Rules: w.Rules, FailurePolicy: w.FailurePolicy, MatchPolicy: w.MatchPolicy,
			NamespaceSelector: w.NamespaceSelector, ObjectSelector: w.ObjectSelector, SideEffects: w.SideEffects,
			TimeoutSeconds: w.TimeoutSeconds, AdmissionReviewVersions: w.AdmissionReviewVersions, MatchConditions: w.MatchConditions,
		}, names)
		if r := w.ReinvocationPolicy; r != nil {
			supported(f, p.Child("reinvocationPolicy"), *r, admissionregistrationv1.IfNeededReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
		}
	}
	return f.list
}

func validateValidatingWebhooks(c *admissionregistrationv1.ValidatingWebhookConfiguration) field.ErrorList {
	f, names := &faults{}, unique{}
	for i := range c.Webhooks {
		validateWebhook(f, field.NewPath("webhooks").Index(i), &c.Webhooks[i], names)
	}
	return f.list
}

const longestWebhookTimeout = 30

func validateWebhook(f *faults, p *field.Path, w *admissionregistrationv1.ValidatingWebhook, names unique) {
	f.add(validation.IsFullyQualifiedName(p.Child("name"), w.Name)...)
	names.check(f, p.Child("name"), w.Name)
	for i := range w.Rules {
		validateAdmissionRule(f, p.Child("rules").Index(i), &w.Rules[i])
	}
	if v := w.FailurePolicy; v != nil {
		supported(f, p.Child("failurePolicy"), *v, admissionregistrationv1.Fail, admissionregistrationv1.Ignore)
	}
	if v := w.MatchPolicy; v != nil {
		supported(f, p.Child("matchPolicy"), *v, admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)
	}
	validateSideEffects(f, p.Child("sideEffects"), w)
	if v := w.TimeoutSeconds; v != nil && (*v < 1 || *v > longestWebhookTimeout) {
		f.invalid(p.Child("timeoutSeconds"), *v, "the timeout value must be between 1 and 30 seconds")
	}
	if w.NamespaceSelector != nil {
		validateSelector(f, p.Child("namespaceSelector"), w.NamespaceSelector)
	}
	if w.ObjectSelector != nil {
		validateSelector(f, p.Child("objectSelector"), w.ObjectSelector)
	}
	validateClientConfig(f, p.Child("clientConfig"), &w.ClientConfig)
	validateConditions(f, p.Child("matchConditions"), w.MatchConditions)
	validateReviewVersions(f, p.Child("admissionReviewVersions"), w.AdmissionReviewVersions)
}

// validateSideEffects: a webhook that speaks v1beta1 alone is from the days when nobody had to say.
func validateSideEffects(f *faults, p *field.Path, w *admissionregistrationv1.ValidatingWebhook) {
	allowed := []admissionregistrationv1.SideEffectClass{admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.SideEffectClassNoneOnDryRun}
	if slices.Equal(w.AdmissionReviewVersions, []string{"v1beta1"}) {
		allowed = append(allowed, admissionregistrationv1.SideEffectClassSome, admissionregistrationv1.SideEffectClassUnknown)
	}
	if w.SideEffects == nil {
		f.required(p, "must specify one of None, NoneOnDryRun")
		return
	}
	supported(f, p, *w.SideEffects, allowed...)
}

func validateReviewVersions(f *faults, p *field.Path, versions []string) {
	if len(versions) == 0 {
		f.required(p, "must specify one of v1, v1beta1")
		return
	}
	seen := map[string]bool{}
	for i, v := range versions {
		if seen[v] {
			f.invalid(p.Index(i), v, "duplicate version")
			continue
		}
		seen[v] = true
		f.each(p.Index(i), v, validation.IsDNS1035Label(v))
	}
	if !seen["v1"] && !seen["v1beta1"] {
		f.invalid(p, versions, "must include at least one of v1, v1beta1")
	}
}

func validateClientConfig(f *faults, p *field.Path, c *admissionregistrationv1.WebhookClientConfig) {
	switch {
	case (c.URL == nil) == (c.Service == nil):
		f.required(p, "exactly one of url or service is required")
	case c.URL != nil:
		validateWebhookURL(f, p.Child("url"), *c.URL)
	default:
		at := p.Child("service")
		f.need(at.Child("name"), c.Service.Name)
		f.need(at.Child("namespace"), c.Service.Namespace)
		if port := c.Service.Port; port != nil {
			if list := validation.IsValidPortNum(int(*port)); list != nil {
				f.invalid(at.Child("port"), *port, "port is not valid: "+strings.Join(list, ", "))
			}
		}
		if c.Service.Path != nil {
			validateServicePath(f, at.Child("path"), *c.Service.Path)
		}
	}
}

func validateWebhookURL(f *faults, p *field.Path, value string) {
	const form = "; desired format: https://host[/path]"
	u, err := url.Parse(value)
	if err != nil {
		f.required(p, "url must be a valid URL: "+err.Error()+form)
		return
	}
	if u.Scheme != "https" {
		f.invalid(p, u.Scheme, "'https' is the only allowed URL scheme"+form)
	}
	if u.Host == "" {
		f.invalid(p, u.Host, "host must be specified"+form)
	}
	if u.User != nil {
		f.invalid(p, u.User.String(), "user information is not permitted in the URL")
	}
	if u.Fragment != "" {
		f.invalid(p, u.Fragment, "fragments are not permitted in the URL")
	}
	if u.RawQuery != "" {
		f.invalid(p, u.RawQuery, "query parameters are not permitted in the URL")
	}
}

// validateServicePath: of segments that DNS would allow; one slash may end it.
func validateServicePath(f *faults, p *field.Path, value string) {
	switch value {
	case "", "/":
		return
	case "//":
		f.invalid(p, value, "segment[0] may not be empty")
		return
	}
	if !strings.HasPrefix(value, "/") {
		f.invalid(p, value, "must start with a '/'")
	}
	for i, s := range strings.Split(strings.TrimSuffix(value[1:], "/"), "/") {
		if s == "" {
			f.invalid(p, value, fmt.Sprintf("segment[%d] may not be empty", i))
			continue
		}
		for _, why := range validation.IsDNS1123Subdomain(s) {
			f.invalid(p, value, fmt.Sprintf("segment[%d]: %v", i, why))
		}
	}
}

// mostConditions bounds what is evaluated before each call.
const mostConditions = 64

func validateConditions(f *faults, p *field.Path, list []admissionregistrationv1.MatchCondition) {
	if len(list) > mostConditions {
		f.add(field.TooMany(p, len(list), mostConditions))
	}
	names := unique{}
	for i, c := range list {
		at := p.Index(i)
		f.need(at.Child("expression"), strings.TrimSpace(c.Expression))
		if f.need(at.Child("name"), c.Name) {
			f.each(at.Child("name"), c.Name, validation.IsQualifiedName(c.Name))
		}
		names.check(f, at.Child("name"), c.Name)
	}
}

func validateAdmissionRule(f *faults, p *field.Path, r *admissionregistrationv1.RuleWithOperations) {
	at := p.Child("operations")
	if len(r.Operations) == 0 {
		f.required(at, "")
	}
	if len(r.Operations) > 1 && slices.Contains(r.Operations, admissionregistrationv1.OperationAll) {
		f.invalid(at, r.Operations, "if '*' is present, must not specify other operations")
	}
	for i, o := range r.Operations {
		supported(f, at.Index(i), o, admissionregistrationv1.OperationAll, admissionregistrationv1.Connect, admissionregistrationv1.Create,
			admissionregistrationv1.Delete, admissionregistrationv1.Update)
	}
	for _, c := range []struct {
		field, what string
		values      []string
	}{{"apiGroups", "API groups", r.APIGroups}, {"apiVersions", "API versions", r.APIVersions}} {
		if len(c.values) == 0 {
			f.required(p.Child(c.field), "")
		}
		if len(c.values) > 1 && slices.Contains(c.values, "*") {
			f.invalid(p.Child(c.field), c.values, "if '*' is present, must not specify other "+c.what)
		}
	}
	for i, v := range r.APIVersions {
		f.need(p.Child("apiVersions").Index(i), v)
	}
	validateRuleResources(f, p.Child("resources"), r.Resources)
	if s := r.Scope; s != nil {
		supported(f, p.Child("scope"), *s, admissionregistrationv1.AllScopes, admissionregistrationv1.ClusterScope, admissionregistrationv1.NamespacedScope)
	}
}

// validateRuleResources: a wildcard makes what it covers a contradiction.
func validateRuleResources(f *faults, p *field.Path, list []string) {
	if len(list) == 0 {
		f.required(p, "")
	}
	whole, parts := map[string]bool{}, map[string]bool{} // resources with all subresources; subresources of all resources
	plain := false
	for i, v := range list {
		if !f.need(p.Index(i), v) {
			continue
		}
		res, sub, has := strings.Cut(v, "/")
		if !has {
			plain = plain || v != "*"
			continue
		}
		if whole[res] {
			f.invalid(p.Index(i), v, fmt.Sprintf("if '%s/*' is present, must not specify %s", res, v))
		}
		if parts[sub] {
			f.invalid(p.Index(i), v, fmt.Sprintf("if '*/%s' is present, must not specify %s", sub, v))
		}
		if sub == "*" {
			whole[res] = true
		}
		if res == "*" {
			parts[sub] = true
		}
	}
	if len(list) > 1 && slices.Contains(list, "*/*") {
		f.invalid(p, list, "if '*/*' is present, must not specify other resources")
	}
	if plain && slices.Contains(list, "*") {
		f.invalid(p, list, "if '*' is present, must not specify other resources without subresources")
	}
}

func validateMatch(f *faults, p *field.Path, m *admissionregistrationv1.MatchResources) {
	if m.MatchPolicy == nil {
		f.required(p.Child("matchPolicy"), "")
	} else {
		supported(f, p.Child("matchPolicy"), *m.MatchPolicy, admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)
	}
	for _, s := range []struct {
		name     string
		selector *metav1.LabelSelector
	}{{"namespaceSelector", m.NamespaceSelector}, {"objectSelector", m.ObjectSelector}} {
		if s.selector == nil {
			f.required(p.Child(s.name), "")
		} else {
			validateSelector(f, p.Child(s.name), s.selector)
		}
	}
	for _, l := range []struct {
		name  string
		rules []admissionregistrationv1.NamedRuleWithOperations
	}{{"resourceRules", m.ResourceRules}, {"excludeResourceRules", m.ExcludeResourceRules}} {
		for i := range l.rules {
			at, names := p.Child(l.name).Index(i), unique{}
			for k, n := range l.rules[i].ResourceNames {
				f.each(at.Child("resourceNames").Index(k), n, pathSegment(n, false))
				names.check(f, at.Child("resourceNames").Index(k), n)
			}
			validateAdmissionRule(f, at, &l.rules[i].RuleWithOperations)
		}
	}
}
