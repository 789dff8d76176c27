// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/apiserver/apiservertest"
)

func namedConfigMaps() *admissionregistrationv1.MatchResources {
	return &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{
		{RuleWithOperations: configMapRule("CREATE", "UPDATE")[0]},
	}}
}

func TestValidatingAdmissionPolicy(t *testing.T) {
	s := apiservertest.New(t)
	c := clientset(t, s)
	ctx := t.Context()
	if _, err := c.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "bounds"}, Data: map[string]string{"most": "2"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	reason := metav1.StatusReasonForbidden
	_, err := c.AdmissionregistrationV1().ValidatingAdmissionPolicies().Create(ctx, &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "few-keys"},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			ParamKind: &admissionregistrationv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}, MatchConstraints: namedConfigMaps(),
			MatchConditions: []admissionregistrationv1.MatchCondition{{Name: "asked", Expression: `"judge" in object.metadata.?labels.orValue({})`}},
			Variables: []admissionregistrationv1.Variable{
				{Name: "keys", Expression: `has(object.data) ? object.data.size() : 0`},
				{Name: "most", Expression: `int(params.data.most)`},
			},
			Validations: []admissionregistrationv1.Validation{
				{Expression: `variables.keys <= variables.most`, MessageExpression: `"at most " + string(variables.most) + " keys in " + namespaceObject.metadata.name`, Reason: &reason},
				{Expression: `!object.metadata.name.startsWith("bad")`},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bind := func(name string, actions ...admissionregistrationv1.ValidationAction) {
		deny := admissionregistrationv1.DenyAction
		_, err := c.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Create(ctx, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
				PolicyName: "few-keys", ValidationActions: actions,
				ParamRef: &admissionregistrationv1.ParamRef{Name: "bounds", Namespace: "default", ParameterNotFoundAction: &deny},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	bind("strict", admissionregistrationv1.Deny)
	try := func(name string, data map[string]string) error {
		_, err := c.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"judge": "yes"}}, Data: data,
		}, metav1.CreateOptions{DryRun: []string{"All"}})
		return err
	}
	three := map[string]string{"a": "", "b": "", "c": ""}
	eventually(t, "the policy counts", func() bool { return try("bad", nil) != nil })
	if err := try("good", nil); err != nil {
		t.Error(err)
	}
	err = try("good", three)
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy 'few-keys' with binding 'strict' denied request: at most 2 keys in default") {
		t.Errorf("too many keys: %v", err)
	}
	err = try("bad", nil)
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), `failed expression: !object.metadata.name.startsWith("bad")`) {
		t.Errorf("a bad name: %v", err)
	}
	if _, err := c.CoreV1().ConfigMaps("default").Create(ctx, cm("bad-unasked"), metav1.CreateOptions{}); err != nil {
		t.Errorf("the condition does not hold: %v", err)
	}
}

func TestMutatingAdmissionPolicy(t *testing.T) {
	s := apiservertest.New(t)
	c := clientset(t, s)
	ctx := t.Context()
	_, err := c.AdmissionregistrationV1().MutatingAdmissionPolicies().Create(ctx, &admissionregistrationv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "marks"},
		Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
			MatchConstraints: namedConfigMaps(), ReinvocationPolicy: admissionregistrationv1.NeverReinvocationPolicy,
			Mutations: []admissionregistrationv1.Mutation{
				{PatchType: admissionregistrationv1.PatchTypeApplyConfiguration, ApplyConfiguration: &admissionregistrationv1.ApplyConfiguration{
					Expression: `Object{metadata: Object.metadata{labels: {"by": request.operation}}}`}},
				{PatchType: admissionregistrationv1.PatchTypeJSONPatch, JSONPatch: &admissionregistrationv1.JSONPatch{
					Expression: `[JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("a/b"), value: "yes"}]`}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AdmissionregistrationV1().MutatingAdmissionPolicyBindings().Create(ctx, &admissionregistrationv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "marks"}, Spec: admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "marks"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var last error
	var m *corev1.ConfigMap
	eventually(t, "the policy marks", func() bool {
		m, last = c.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: "m", Labels: map[string]string{"own": "x"}}, Data: map[string]string{"k": "v"},
		}, metav1.CreateOptions{DryRun: []string{"All"}})
		return last != nil || m.Labels["a/b"] == "yes"
	})
	if last != nil || m.Labels["own"] != "x" || m.Labels["by"] == "" || m.Data["k"] != "v" {
		t.Errorf("%v, %v", m, last)
	}
}
