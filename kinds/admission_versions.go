// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	admissionregistrationv1alpha1 "k8s.io/api/admissionregistration/v1alpha1"
	admissionregistrationv1beta1 "k8s.io/api/admissionregistration/v1beta1"
)

const admissionGroup = "admissionregistration.k8s.io"

// In v1beta1 a webhook that did not answer was passed over, had thirty seconds, and was called for exactly what it named.
var (
	mutatingWebhookVersions = []Served[admissionregistrationv1.MutatingWebhookConfiguration]{
		Alike[admissionregistrationv1.MutatingWebhookConfiguration, admissionregistrationv1beta1.MutatingWebhookConfiguration](admissionGroup, "v1beta1", nil, nil).
			Defaulted(func(c *admissionregistrationv1.MutatingWebhookConfiguration) {
				for i := range c.Webhooks {
					w := &c.Webhooks[i]
					betaWebhook(&w.FailurePolicy, &w.MatchPolicy, &w.TimeoutSeconds, &w.SideEffects, &w.AdmissionReviewVersions)
				}
			}),
	}
	validatingWebhookVersions = []Served[admissionregistrationv1.ValidatingWebhookConfiguration]{
		Alike[admissionregistrationv1.ValidatingWebhookConfiguration, admissionregistrationv1beta1.ValidatingWebhookConfiguration](admissionGroup, "v1beta1", nil, nil).
			Defaulted(func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
				for i := range c.Webhooks {
					w := &c.Webhooks[i]
					betaWebhook(&w.FailurePolicy, &w.MatchPolicy, &w.TimeoutSeconds, &w.SideEffects, &w.AdmissionReviewVersions)
				}
			}),
	}
	validatingPolicyVersions = []Served[admissionregistrationv1.ValidatingAdmissionPolicy]{
		Alike[admissionregistrationv1.ValidatingAdmissionPolicy, admissionregistrationv1beta1.ValidatingAdmissionPolicy](admissionGroup, "v1beta1", nil, nil),
		Alike[admissionregistrationv1.ValidatingAdmissionPolicy, admissionregistrationv1alpha1.ValidatingAdmissionPolicy](admissionGroup, "v1alpha1", nil, nil),
	}
	validatingBindingVersions = []Served[admissionregistrationv1.ValidatingAdmissionPolicyBinding]{
		Alike[admissionregistrationv1.ValidatingAdmissionPolicyBinding, admissionregistrationv1beta1.ValidatingAdmissionPolicyBinding](admissionGroup, "v1beta1", nil, nil),
		Alike[admissionregistrationv1.ValidatingAdmissionPolicyBinding, admissionregistrationv1alpha1.ValidatingAdmissionPolicyBinding](admissionGroup, "v1alpha1", nil, nil),
	}
	mutatingPolicyVersions = []Served[admissionregistrationv1.MutatingAdmissionPolicy]{
		Alike[admissionregistrationv1.MutatingAdmissionPolicy, admissionregistrationv1beta1.MutatingAdmissionPolicy](admissionGroup, "v1beta1", nil, nil),
		Alike[admissionregistrationv1.MutatingAdmissionPolicy, admissionregistrationv1alpha1.MutatingAdmissionPolicy](admissionGroup, "v1alpha1", nil, nil),
	}
	mutatingBindingVersions = []Served[admissionregistrationv1.MutatingAdmissionPolicyBinding]{
		Alike[admissionregistrationv1.MutatingAdmissionPolicyBinding, admissionregistrationv1beta1.MutatingAdmissionPolicyBinding](admissionGroup, "v1beta1", nil, nil),
		Alike[admissionregistrationv1.MutatingAdmissionPolicyBinding, admissionregistrationv1alpha1.MutatingAdmissionPolicyBinding](admissionGroup, "v1alpha1", nil, nil),
	}
)

func betaWebhook(failure **admissionregistrationv1.FailurePolicyType, match **admissionregistrationv1.MatchPolicyType, seconds **int32,
	effects **admissionregistrationv1.SideEffectClass, versions *[]string,
) {
	orSet(failure, admissionregistrationv1.Ignore)
	orSet(match, admissionregistrationv1.Exact)
	orSet(seconds, 30)
	orSet(effects, admissionregistrationv1.SideEffectClassUnknown)
	if len(*versions) == 0 {
		*versions = []string{"v1beta1"}
	}
}
