// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Who else is asked before a write: webhooks that may change it, and webhooks that may only refuse it.
var (
	MutatingWebhookConfiguration = Kind[admissionregistrationv1.MutatingWebhookConfiguration]{
		Group: "admissionregistration.k8s.io", Version: "v1", Name: "MutatingWebhookConfiguration", Plural: "mutatingwebhookconfigurations",
		Served:     mutatingWebhookVersions,
		Validate:   validateMutatingWebhooks,
		Categories: []string{"api-extensions"}, Cluster: true,
		Default: func(c *admissionregistrationv1.MutatingWebhookConfiguration) {
			for i := range c.Webhooks {
				w := &c.Webhooks[i]
				defaultWebhook(&w.ClientConfig, w.Rules, &w.FailurePolicy, &w.MatchPolicy, &w.NamespaceSelector, &w.ObjectSelector, &w.TimeoutSeconds)
				orSet(&w.ReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
			}
		},
		Columns: []Column[admissionregistrationv1.MutatingWebhookConfiguration]{
			nameColumn[admissionregistrationv1.MutatingWebhookConfiguration](),
			number("Webhooks", "How many it has.", func(c *admissionregistrationv1.MutatingWebhookConfiguration) int64 { return int64(len(c.Webhooks)) }),
			ageColumn[admissionregistrationv1.MutatingWebhookConfiguration](),
		},
	}
	ValidatingWebhookConfiguration = Kind[admissionregistrationv1.ValidatingWebhookConfiguration]{
		Group: "admissionregistration.k8s.io", Version: "v1", Name: "ValidatingWebhookConfiguration", Plural: "validatingwebhookconfigurations",
		Served:     validatingWebhookVersions,
		Validate:   validateValidatingWebhooks,
		Categories: []string{"api-extensions"}, Cluster: true,
		Default: func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
			for i := range c.Webhooks {
				w := &c.Webhooks[i]
				defaultWebhook(&w.ClientConfig, w.Rules, &w.FailurePolicy, &w.MatchPolicy, &w.NamespaceSelector, &w.ObjectSelector, &w.TimeoutSeconds)
			}
		},
		Columns: []Column[admissionregistrationv1.ValidatingWebhookConfiguration]{
			nameColumn[admissionregistrationv1.ValidatingWebhookConfiguration](),
			number("Webhooks", "How many it has.", func(c *admissionregistrationv1.ValidatingWebhookConfiguration) int64 { return int64(len(c.Webhooks)) }),
			ageColumn[admissionregistrationv1.ValidatingWebhookConfiguration](),
		},
	}
)

func defaultWebhook(c *admissionregistrationv1.WebhookClientConfig, rules []admissionregistrationv1.RuleWithOperations,
	failure **admissionregistrationv1.FailurePolicyType, match **admissionregistrationv1.MatchPolicyType,
	namespaces, objects **metav1.LabelSelector, seconds **int32,
) {
	if c.Service != nil {
		orSet(&c.Service.Port, 443)
	}
	for i := range rules {
		orSet(&rules[i].Scope, admissionregistrationv1.AllScopes)
	}
	orSet(failure, admissionregistrationv1.Fail)
	orSet(match, admissionregistrationv1.Equivalent)
	orSet(namespaces, metav1.LabelSelector{})
	orSet(objects, metav1.LabelSelector{})
	orSet(seconds, 10)
}
