// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"net/http"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/apiserver/apiservertest"
)

func TestExpressionsThatDoNotCompileAreRefused(t *testing.T) {
	c := clientset(t, apiservertest.New(t))
	ctx := t.Context()
	none, url := admissionregistrationv1.SideEffectClassNone, "https://127.0.0.1:1/"
	hook := func(expression string) error {
		_, err := c.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(ctx, &admissionregistrationv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "h-"}, Webhooks: []admissionregistrationv1.ValidatingWebhook{{
				Name: "a.example.com", ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url}, SideEffects: &none,
				AdmissionReviewVersions: []string{"v1"}, MatchConditions: []admissionregistrationv1.MatchCondition{{Name: "c", Expression: expression}},
			}},
		}, metav1.CreateOptions{})
		return err
	}
	for expression, want := range map[string]string{
		"... [] bad expression": "webhooks[0].matchConditions[0].expression: Invalid value: \"... [] bad expression\": compilation failed: ERROR: <input>:1:2: Syntax error",
		"'text'":                "webhooks[0].matchConditions[0].expression: Invalid value: \"'text'\": must evaluate to bool but got string",
		"params.x == 1":         "undeclared reference to 'params'",
	} {
		if err := hook(expression); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", expression, err)
		}
	}
	if err := hook("object.metadata.name != 'skip-me'"); err != nil {
		t.Error(err)
	}
	_, err := c.AdmissionregistrationV1().MutatingAdmissionPolicies().Create(ctx, &admissionregistrationv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "bad"},
		Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
			MatchConstraints: namedConfigMaps(), ReinvocationPolicy: admissionregistrationv1.NeverReinvocationPolicy,
			Variables: []admissionregistrationv1.Variable{{Name: "v", Expression: "1 +"}},
			Mutations: []admissionregistrationv1.Mutation{{PatchType: admissionregistrationv1.PatchTypeApplyConfiguration,
				ApplyConfiguration: &admissionregistrationv1.ApplyConfiguration{Expression: "1"}}},
		},
	}, metav1.CreateOptions{})
	for _, want := range []string{"spec.variables[0].expression: Invalid value", "spec.mutations[0].applyConfiguration.expression: Invalid value: \"1\": must evaluate to Object but got int"} {
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is missing in %v", want, err)
		}
	}
}

// TestAReviewHasNoTable: a client that takes nothing but a table of it gets nothing.
func TestAReviewHasNoTable(t *testing.T) {
	c := clientset(t, apiservertest.New(t))
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: "/", Verb: "get"},
	}}
	post := func(accept string) error {
		return c.AuthorizationV1().RESTClient().Post().Resource("selfsubjectaccessreviews").SetHeader("Accept", accept).Body(review).Do(t.Context()).Error()
	}
	const table = "application/json;as=Table;v=v1;g=meta.k8s.io"
	var status apierrors.APIStatus
	if err := post(table); !asStatus(err, &status) || status.Status().Code != http.StatusNotAcceptable {
		t.Errorf("as a table: %v", err)
	}
	if err := post("application/json"); err != nil {
		t.Error(err)
	}
}
