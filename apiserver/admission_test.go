// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/knarr/knarr/apiserver/apiservertest"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/kinds/settings"
	"github.com/knarr/knarr/state/client"
)

// fakeHook is an admission webhook on loopback. answer fills in the response.
func fakeHook(t *testing.T, answer func(*admissionv1.AdmissionRequest, *admissionv1.AdmissionResponse)) (url string, ca []byte, calls *atomic.Int32) {
	t.Helper()
	calls = &atomic.Int32{}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		var q admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Request == nil {
			http.Error(w, "no review", http.StatusBadRequest)
			return
		}
		a := &admissionv1.AdmissionResponse{UID: q.Request.UID, Allowed: true}
		answer(q.Request, a)
		_ = json.NewEncoder(w).Encode(admissionv1.AdmissionReview{TypeMeta: q.TypeMeta, Response: a})
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/hook", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), calls
}

func configMapRule(ops ...admissionregistrationv1.OperationType) []admissionregistrationv1.RuleWithOperations {
	return []admissionregistrationv1.RuleWithOperations{{Operations: ops, Rule: admissionregistrationv1.Rule{
		APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"},
	}}}
}

func patch(a *admissionv1.AdmissionResponse, ops string) {
	how := admissionv1.PatchTypeJSONPatch
	a.Patch, a.PatchType = []byte(ops), &how
}

func mutating(t *testing.T, c kubernetes.Interface, name, url string, ca []byte, edit ...func(*admissionregistrationv1.MutatingWebhook)) {
	t.Helper()
	none := admissionregistrationv1.SideEffectClassNone
	w := admissionregistrationv1.MutatingWebhook{
		Name: name + ".example.com", ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: ca},
		Rules: configMapRule("*"), SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
	}
	for _, e := range edit {
		e(&w)
	}
	_, err := c.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: []admissionregistrationv1.MutatingWebhook{w},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func validating(t *testing.T, c kubernetes.Interface, name, url string, ca []byte, edit ...func(*admissionregistrationv1.ValidatingWebhook)) {
	t.Helper()
	none := admissionregistrationv1.SideEffectClassNone
	w := admissionregistrationv1.ValidatingWebhook{
		Name: name + ".example.com", ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: ca},
		Rules: configMapRule("*"), SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
	}
	for _, e := range edit {
		e(&w)
	}
	_, err := c.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: []admissionregistrationv1.ValidatingWebhook{w},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMutatingWebhooksAreAskedInOrderAndOnceMore(t *testing.T) {
	s := apiservertest.New(t)
	c := clientset(t, s)
	first, ca1, calls1 := fakeHook(t, func(q *admissionv1.AdmissionRequest, a *admissionv1.AdmissionResponse) {
		if !strings.Contains(string(q.Object.Raw), `"first"`) {
			patch(a, `[{"op":"add","path":"/data","value":{"first":"1"}}]`)
		}
		a.Warnings = []string{"seen"}
	})
	second, ca2, calls2 := fakeHook(t, func(q *admissionv1.AdmissionRequest, a *admissionv1.AdmissionResponse) {
		if q.Kind.Kind != "ConfigMap" || q.UserInfo.Username == "" || q.Operation != admissionv1.Create {
			t.Errorf("asked about %+v", q)
		}
		patch(a, `[{"op":"add","path":"/data/second","value":"2"}]`)
	})
	mutating(t, c, "a", first, ca1, func(w *admissionregistrationv1.MutatingWebhook) {
		again := admissionregistrationv1.IfNeededReinvocationPolicy
		w.ReinvocationPolicy = &again
	})
	mutating(t, c, "b", second, ca2)
	eventually(t, "the webhooks count", func() bool { return calls2.Load() > 0 || try(c, t.Context()) == 2 })
	calls1.Store(0)
	calls2.Store(0)
	m, err := c.CoreV1().ConfigMaps("default").Create(t.Context(), cm("both"), metav1.CreateOptions{})
	if err != nil || m.Data["first"] != "1" || m.Data["second"] != "2" {
		t.Fatalf("%v, %v", m, err)
	}
	if calls1.Load() != 2 || calls2.Load() != 1 {
		t.Errorf("the first was asked %d times, want twice (its object was changed after it); the second %d times, want once", calls1.Load(), calls2.Load())
	}
}

// try makes a ConfigMap and says how many keys it got.
func try(c kubernetes.Interface, ctx context.Context) int {
	m, err := c.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "try-"}}, metav1.CreateOptions{})
	if err != nil {
		return -1
	}
	return len(m.Data)
}

func TestValidatingWebhooks(t *testing.T) {
	s := apiservertest.New(t)
	c := clientset(t, s)
	ctx := t.Context()
	deny, ca, _ := fakeHook(t, func(q *admissionv1.AdmissionRequest, a *admissionv1.AdmissionResponse) {
		a.Allowed, a.Result = false, &metav1.Status{Message: "not here", Code: 403}
	})
	fail := admissionregistrationv1.Fail
	ignore := admissionregistrationv1.Ignore
	closed := "https://127.0.0.1:1/"
	only := func(label string) func(*admissionregistrationv1.ValidatingWebhook) {
		return func(w *admissionregistrationv1.ValidatingWebhook) {
			w.ObjectSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"for": label}}
		}
	}
	redirected := atomic.Bool{}
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { redirected.Store(true) }))
	defer target.Close()
	redirect := httptest.NewTLSServer(http.RedirectHandler(target.URL, http.StatusTemporaryRedirect))
	defer redirect.Close()
	redirectCA := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: redirect.Certificate().Raw})
	linkLocal := "https://169.254.169.254/latest"

	validating(t, c, "denies", deny, ca, only("denied"))
	validating(t, c, "away", closed, nil, only("away"), func(w *admissionregistrationv1.ValidatingWebhook) { w.FailurePolicy = &fail })
	validating(t, c, "forgiven", closed, nil, only("forgiven"), func(w *admissionregistrationv1.ValidatingWebhook) { w.FailurePolicy = &ignore })
	validating(t, c, "redirects", redirect.URL, redirectCA, only("redirected"))
	validating(t, c, "metadata", linkLocal, nil, only("metadata"))
	validating(t, c, "conditional", deny, ca, only("conditional"), func(w *admissionregistrationv1.ValidatingWebhook) {
		w.MatchConditions = []admissionregistrationv1.MatchCondition{
			{Name: "big", Expression: `has(object.data) && object.data.size() > 1 && request.operation == "CREATE" && authorizer.group("").resource("pods").check("get").allowed()`},
		}
	})
	make := func(label string, data map[string]string, opts metav1.CreateOptions) error {
		_, err := c.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "x-", Labels: map[string]string{"for": label}}, Data: data,
		}, opts)
		return err
	}
	eventually(t, "the webhooks count", func() bool { return make("denied", nil, metav1.CreateOptions{}) != nil })
	for _, x := range []struct {
		label string
		data  map[string]string
		want  string
	}{
		{"none", nil, ""},
		{"denied", nil, `admission webhook "denies.example.com" denied the request: not here`},
		{"away", nil, `failed calling webhook "away.example.com"`},
		{"forgiven", nil, ""},
		{"redirected", nil, "redirect (307), which is never followed"},
		{"metadata", nil, "not called on the address 169.254.169.254"},
		{"conditional", map[string]string{"a": "1"}, ""},
		{"conditional", map[string]string{"a": "1", "b": "2"}, "not here"},
	} {
		err := make(x.label, x.data, metav1.CreateOptions{})
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%s %v: %v, want %q", x.label, x.data, err, x.want)
		}
	}
	if redirected.Load() {
		t.Error("a redirect was followed")
	}
	// Nobody locks the administrator out: a webhook that refuses everything cannot keep its own configuration.
	validating(t, c, "everything", deny, ca, func(w *admissionregistrationv1.ValidatingWebhook) {
		w.Rules[0].Rule = admissionregistrationv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{"*"}}
	})
	eventually(t, "it refuses", func() bool { return make("none", nil, metav1.CreateOptions{}) != nil })
	if err := c.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(ctx, "everything", metav1.DeleteOptions{}); err != nil {
		t.Errorf("remove the webhook: %v", err)
	}
}

// TestConnectionsAreAdmitted: a webhook may refuse exec into a pod; it sees how it is meant, and how long its answer counts.
func TestConnectionsAreAdmitted(t *testing.T) {
	s := apiservertest.New(t)
	c := clientset(t, s)
	var seen atomic.Pointer[admissionv1.AdmissionRequest]
	deny, ca, _ := fakeHook(t, func(q *admissionv1.AdmissionRequest, a *admissionv1.AdmissionResponse) {
		seen.Store(q)
		a.Allowed, a.Result = false, &metav1.Status{Message: "no exec here"}
	})
	validating(t, c, "exec", deny, ca, func(w *admissionregistrationv1.ValidatingWebhook) {
		w.Rules = []admissionregistrationv1.RuleWithOperations{{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Connect},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods/exec"}},
		}}
	})
	exec := func() error {
		return c.CoreV1().RESTClient().Post().Namespace("default").Resource("pods").Name("p").SubResource("exec").
			Param("command", "id").Param("stdout", "true").Do(t.Context()).Error()
	}
	eventually(t, "the webhook counts", func() bool { return strings.Contains(exec().Error(), `denied the request: no exec here`) })
	q := seen.Load()
	if q.Operation != admissionv1.Connect || q.Kind.Kind != "PodExecOptions" || q.SubResource != "exec" || q.Name != "p" || !strings.Contains(string(q.Object.Raw), `"command":["id"]`) {
		t.Errorf("asked about %+v %s", q, q.Object.Raw)
	}
	if err := c.CoreV1().RESTClient().Post().Namespace("default").Resource("pods").Name("p").SubResource("attach").Param("stdout", "true").Do(t.Context()).Error(); err == nil || strings.Contains(err.Error(), "denied") {
		t.Errorf("attach, which nobody refuses: %v", err)
	}
}

func TestQuotaHoldsUnderConcurrency(t *testing.T) {
	s := apiservertest.New(t)
	c := clientset(t, s)
	ctx := t.Context()
	hard := corev1.ResourceList{"configmaps": resource.MustParse("5")}
	q, err := c.CoreV1().ResourceQuotas("default").Create(ctx, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: hard},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "an uncounted quota admits nothing", func() bool {
		_, err := c.CoreV1().ConfigMaps("default").Create(ctx, cm("early"), metav1.CreateOptions{DryRun: []string{"All"}})
		return err != nil && strings.Contains(err.Error(), "status unknown for quota: q, resources: configmaps")
	})
	q.Status = corev1.ResourceQuotaStatus{Hard: hard, Used: corev1.ResourceList{"configmaps": resource.MustParse("0")}}
	if _, err := c.CoreV1().ResourceQuotas("default").UpdateStatus(ctx, q, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is counted", func() bool {
		_, err := c.CoreV1().ConfigMaps("default").Create(ctx, cm("early"), metav1.CreateOptions{DryRun: []string{"All"}})
		return err == nil
	})
	var made atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			_, err := c.CoreV1().ConfigMaps("default").Create(ctx, cm(fmt.Sprintf("m%d", i)), metav1.CreateOptions{})
			switch {
			case err == nil:
				made.Add(1)
			case !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "exceeded quota: q, requested: configmaps=1, used: configmaps=5, limited: configmaps=5"):
				t.Errorf("refused with %v", err)
			}
		})
	}
	wg.Wait()
	if q, err = c.CoreV1().ResourceQuotas("default").Get(ctx, "q", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if used := q.Status.Used["configmaps"]; made.Load() != 5 || used.Value() != 5 {
		t.Errorf("%d made, %s counted; want 5 and 5", made.Load(), used.String())
	}
}

func TestPodsGetWhatTheNamespaceSays(t *testing.T) {
	s := apiservertest.New(t)
	s.Account(t, "default")
	c := clientset(t, s)
	ctx := t.Context()
	if _, err := c.CoreV1().LimitRanges("default").Create(ctx, &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "l"}, Spec: corev1.LimitRangeSpec{
		Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypeContainer,
			Default: corev1.ResourceList{"cpu": resource.MustParse("200m")}, DefaultRequest: corev1.ResourceList{"cpu": resource.MustParse("100m")},
			Max: corev1.ResourceList{"cpu": resource.MustParse("1")}}},
	}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	preset := &settings.PodPreset{ObjectMeta: metav1.ObjectMeta{Name: "allow-database", Namespace: "default"}, Spec: settings.PodPresetSpec{
		Selector:     metav1.LabelSelector{MatchLabels: map[string]string{"role": "frontend"}},
		Env:          []corev1.EnvVar{{Name: "DB_PORT", Value: "6379"}},
		Volumes:      []corev1.Volume{{Name: "cache-volume", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		VolumeMounts: []corev1.VolumeMount{{Name: "cache-volume", MountPath: "/cache"}},
	}}
	if _, err := s.Admin.Do(ctx, client.Request{Verb: client.Create, Type: kinds.For[settings.PodPreset](), Namespace: "default", Object: preset}); err != nil {
		t.Fatal(err)
	}
	website := func(name string, env ...corev1.EnvVar) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"role": "frontend"}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "website", Image: "nginx", Env: env}}}}
	}
	var p *corev1.Pod
	eventually(t, "the preset counts", func() bool {
		var err error
		p, err = c.CoreV1().Pods("default").Create(ctx, website("w"), metav1.CreateOptions{DryRun: []string{"All"}})
		return err == nil && p.Annotations["podpreset.admission.kubernetes.io/podpreset-allow-database"] != ""
	})
	k := p.Spec.Containers[0]
	if len(k.Env) != 1 || k.Env[0].Value != "6379" || k.VolumeMounts[0].MountPath != "/cache" && k.VolumeMounts[1].MountPath != "/cache" {
		t.Errorf("container %+v", k)
	}
	if k.Resources.Limits.Cpu().String() != "200m" || k.Resources.Requests.Cpu().String() != "100m" || p.Annotations["kubernetes.io/limit-ranger"] == "" {
		t.Errorf("resources %+v, annotations %v", k.Resources, p.Annotations)
	}
	p, err := c.CoreV1().Pods("default").Create(ctx, website("other", corev1.EnvVar{Name: "DB_PORT", Value: "1"}), metav1.CreateOptions{})
	if err != nil || len(p.Spec.Containers[0].Env) != 1 || p.Annotations["podpreset.admission.kubernetes.io/podpreset-allow-database"] != "" {
		t.Errorf("a conflict: %v, %v", p.Annotations, err)
	}
	eventually(t, "people are told of the conflict", func() bool {
		l, err := c.CoreV1().Events("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return false
		}
		for _, e := range l.Items {
			if e.Reason == "PodPreset" && strings.Contains(e.Message, "DB_PORT") {
				return true
			}
		}
		return false
	})
	big := website("big")
	big.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("2")}
	_, err = c.CoreV1().Pods("default").Create(ctx, big, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "maximum cpu usage per Container is 1, but limit is 2") {
		t.Errorf("too big: %v", err)
	}
	if _, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "strict", Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted"}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.Account(t, "strict")
	eventually(t, "PodSecurity refuses", func() bool {
		_, err := c.CoreV1().Pods("strict").Create(ctx, website("w"), metav1.CreateOptions{})
		return apierrors.IsForbidden(err) && strings.Contains(err.Error(), `violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false`)
	})
	_, err = c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "odd", Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "strange"}}}, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) {
		t.Errorf("an unknown level: %v", err)
	}
}
