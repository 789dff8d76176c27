// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/knarr/knarr/apiserver"
	"github.com/knarr/knarr/apiserver/apiservertest"
	"github.com/knarr/knarr/apiserver/auth"
)

// as is a clientset with a client certificate of u.
func as(t *testing.T, s *apiservertest.Server, u auth.User) *kubernetes.Clientset {
	t.Helper()
	data, err := s.Server.Kubeconfig(u)
	if err != nil {
		t.Fatal(err)
	}
	c, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	cs, err := kubernetes.NewForConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

// raw asks with nothing but a bearer token ("" for none), and gives the code and the body.
func raw(t *testing.T, s *apiservertest.Server, token, method, path string, header ...string) (int, string) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.Auth().CA())
	c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestAnonymousSeesOnlyHealthAndVersion(t *testing.T) {
	s := apiservertest.New(t)
	for path, want := range map[string]int{
		"/healthz": 200, "/livez": 200, "/readyz": 200, "/version": 200,
		"/api": 403, "/apis": 403, "/metrics": 403, "/api/v1/namespaces": 403, "/openid/v1/jwks": 403, "/nothing": 403,
	} {
		if code, body := raw(t, s, "", "GET", path); code != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	code, body := raw(t, s, "garbage", "GET", "/healthz")
	if code != 401 || !strings.Contains(body, `"reason":"Unauthorized"`) {
		t.Errorf("a bad token is not nobody: %d %s", code, body)
	}
	_, body = raw(t, s, "", "GET", "/api/v1/pods")
	want := `pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" at the cluster scope`
	if !strings.Contains(body, want) {
		t.Errorf("refusal reads %s", body)
	}
}

func TestRBAC(t *testing.T) {
	s := apiservertest.New(t)
	ctx := t.Context()
	admin := clientset(t, s)
	ann := as(t, s, auth.User{Name: "ann", Groups: []string{"dev"}})
	list := func(ns string) error {
		_, err := ann.CoreV1().ConfigMaps(ns).List(ctx, metav1.ListOptions{})
		return err
	}
	if err := list("default"); !apierrors.IsForbidden(err) {
		t.Fatalf("before any binding: %v", err)
	}
	_, err := admin.RbacV1().RoleBindings("default").Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "dev"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "dev"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the binding counts", func() bool { return list("default") == nil })
	if err := list("kube-system"); !apierrors.IsForbidden(err) {
		t.Errorf("another namespace: %v", err)
	}
	if _, err := ann.CoreV1().ConfigMaps("default").Create(ctx, cm("mine"), metav1.CreateOptions{}); err != nil {
		t.Errorf("edit may write: %v", err)
	}
	_, err = ann.RbacV1().RoleBindings("default").Create(ctx, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("edit may not bind: %v", err)
	}
	if l, err := admin.RbacV1().ClusterRoles().List(ctx, metav1.ListOptions{}); err != nil || len(l.Items) < 20 {
		t.Errorf("bootstrap roles: %d, %v", len(l.Items), err)
	}
}

func TestNobodyGivesWhatHeDoesNotHave(t *testing.T) {
	s := apiservertest.New(t)
	ctx := t.Context()
	admin := clientset(t, s)
	if _, err := admin.RbacV1().RoleBindings("default").Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "bob"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "bob"}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	bob := as(t, s, auth.User{Name: "bob"})
	role := func(name string, rule rbacv1.PolicyRule) error {
		_, err := bob.RbacV1().Roles("default").Create(ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{rule}}, metav1.CreateOptions{})
		return err
	}
	eventually(t, "bob is admin", func() bool {
		return role("ok", rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}}) == nil
	})
	err := role("no", rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "attempting to grant RBAC permissions not currently held") {
		t.Errorf("escalation by a role: %v", err)
	}
	_, err = bob.RbacV1().RoleBindings("default").Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "root"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "bob"}},
	}, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("escalation by a binding: %v", err)
	}
}

func TestImpersonation(t *testing.T) {
	s := apiservertest.New(t)
	c := config(t, s)
	c.Impersonate = restclient.ImpersonationConfig{UserName: "ann", Groups: []string{"dev"}}
	cs, err := kubernetes.NewForConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	me, err := cs.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil || me.Status.UserInfo.Username != "ann" || fmt.Sprint(me.Status.UserInfo.Groups) != "[dev system:authenticated]" {
		t.Errorf("who am I: %+v, %v", me.Status, err)
	}
	if _, err := cs.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("impersonation keeps no rights: %v", err)
	}
	code, body := raw(t, s, "", "GET", "/version", "Impersonate-User", "system:admin", "Impersonate-Group", "system:masters")
	if code != 403 {
		t.Errorf("anonymous became somebody: %d %s", code, body)
	}
}

func TestServiceAccountToken(t *testing.T) {
	s := apiservertest.New(t)
	ctx := t.Context()
	s.Account(t, "default")
	cs := clientset(t, s)
	p, err := cs.CoreV1().Pods("default").Create(ctx, pod("p"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Spec.ServiceAccountName != "default" || len(p.Spec.Volumes) != 1 || !strings.HasPrefix(p.Spec.Volumes[0].Name, "kube-api-access-") ||
		len(p.Spec.Containers[0].VolumeMounts) != 1 || p.Spec.Containers[0].VolumeMounts[0].MountPath != "/var/run/secrets/kubernetes.io/serviceaccount" {
		t.Errorf("the token's volume: %+v", p.Spec)
	}
	if len(p.Spec.Tolerations) != 2 {
		t.Errorf("tolerations: %+v", p.Spec.Tolerations)
	}
	seconds := int64(600)
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "p", UID: p.UID}}}
	answer, err := cs.CoreV1().ServiceAccounts("default").CreateToken(ctx, "default", req, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	token := answer.Status.Token
	review := func(audiences ...string) authenticationv1.TokenReviewStatus {
		r, err := cs.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status
	}
	st := review()
	if !st.Authenticated || st.User.Username != "system:serviceaccount:default:default" || st.User.Extra["authentication.kubernetes.io/pod-name"][0] != "p" {
		t.Errorf("review: %+v", st)
	}
	if st := review("somebody-else"); st.Authenticated {
		t.Errorf("a token for us was taken by somebody else: %+v", st)
	}
	if code, _ := raw(t, s, token, "GET", "/apis"); code != 200 {
		t.Errorf("discovery with a token: %d", code)
	}
	if code, _ := raw(t, s, token, "GET", "/openid/v1/jwks"); code != 200 {
		t.Errorf("keys with a token: %d", code)
	}
	if code, _ := raw(t, s, token+"x", "GET", "/apis"); code != 401 {
		t.Errorf("a changed token: %d", code)
	}
	zero := int64(0)
	if err := cs.CoreV1().Pods("default").Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the token ends with its pod", func() bool { code, _ := raw(t, s, token, "GET", "/apis"); return code == 401 })

	short := int64(5)
	_, err = cs.CoreV1().ServiceAccounts("default").CreateToken(ctx, "default", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &short}}, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) {
		t.Errorf("a token of five seconds: %v", err)
	}
}

func TestNodeIsHeldToItself(t *testing.T) {
	s := apiservertest.New(t)
	ctx := t.Context()
	s.Account(t, "default")
	admin := clientset(t, s)
	node := as(t, s, auth.Node("n1"))
	for _, name := range []string{"wanted", "other"} {
		if _, err := admin.CoreV1().Secrets("default").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	mine := pod("mine")
	mine.Spec.Volumes = []corev1.Volume{{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "wanted"}}}}
	for _, p := range []*corev1.Pod{mine, pod("stranger")} {
		if _, err := admin.CoreV1().Pods("default").Create(ctx, p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	get := func(secret string) error {
		_, err := node.CoreV1().Secrets("default").Get(ctx, secret, metav1.GetOptions{})
		return err
	}
	if err := get("wanted"); !apierrors.IsForbidden(err) {
		t.Errorf("before the pod is bound: %v", err)
	}
	if err := admin.CoreV1().Pods("default").Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "mine"}, Target: corev1.ObjectReference{Name: "n1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pod's secret is the node's", func() bool { return get("wanted") == nil })
	if err := get("other"); !apierrors.IsForbidden(err) {
		t.Errorf("another secret: %v", err)
	}
	if _, err := node.CoreV1().Secrets("").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("all secrets: %v", err)
	}
	if _, err := node.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=n1"}); err != nil {
		t.Errorf("own pods: %v", err)
	}
	if _, err := node.CoreV1().Pods("").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("all pods: %v", err)
	}
	if _, err := node.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("another node: %v", err)
	}
	if _, err := node.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{}); err != nil {
		t.Errorf("own node: %v", err)
	}
	// CVE-2025-5187: a node frees or promotes itself by patching itself.
	for _, patch := range []string{
		`{"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}`,
		`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"x","uid":"y"}]}}`,
		`{"metadata":{"labels":{"node-restriction.kubernetes.io/x":"y"}}}`,
	} {
		if _, err := node.CoreV1().Nodes().Patch(ctx, "n1", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", patch, err)
		}
	}
	if _, err := node.CoreV1().Nodes().Patch(ctx, "n1", types.MergePatchType, []byte(`{"status":{"phase":"Running"}}`), metav1.PatchOptions{}, "status"); err != nil {
		t.Errorf("own status: %v", err)
	}
	_, err := node.CoreV1().ServiceAccounts("default").CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("a token bound to nothing: %v", err)
	}
	bound := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", Name: "mine"}}}
	if _, err := node.CoreV1().ServiceAccounts("default").CreateToken(ctx, "default", bound, metav1.CreateOptions{}); err != nil {
		t.Errorf("a token for an own pod: %v", err)
	}
	bound.Spec.BoundObjectRef.Name = "stranger"
	if _, err := node.CoreV1().ServiceAccounts("default").CreateToken(ctx, "default", bound, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a token for another node's pod: %v", err)
	}
	if err := node.CoreV1().Pods("default").Delete(ctx, "stranger", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("delete of another's pod: %v", err)
	}
}

// TestOpeningAStreamNeedsCreate is row 30 of the security table: a WebSocket is a GET, and still runs a command.
func TestOpeningAStreamNeedsCreate(t *testing.T) {
	s := apiservertest.New(t, func(c *apiserver.Config) {
		c.Kubelet = func(string) (apiserver.Backend, error) {
			return apiserver.Backend{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the kubelet was reached") })}, nil
		}
	})
	s.Account(t, "default")
	admin := clientset(t, s)
	ctx := t.Context()
	if _, err := admin.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "peek"},
		Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods/exec", "pods/attach", "pods/portforward", "nodes/proxy", "pods"}}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "peek"},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "peek"}, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "default", Name: "default"}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	answer, err := admin.CoreV1().ServiceAccounts("default").CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	token := answer.Status.Token
	eventually(t, "the role counts", func() bool { code, _ := raw(t, s, token, "GET", "/api/v1/pods/x"); return code != 403 })
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-Websocket-Version", "13", "Sec-Websocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}
	for _, path := range []string{
		"/api/v1/namespaces/default/pods/p/exec?command=id", "/api/v1/namespaces/default/pods/p/attach",
		"/api/v1/namespaces/default/pods/p/portforward?ports=80", "/api/v1/nodes/n/proxy/exec/default/p/c?command=id",
	} {
		if code, body := raw(t, s, token, "GET", path, upgrade...); code != 403 {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

func TestBounds(t *testing.T) {
	s := apiservertest.New(t)
	ctx := t.Context()
	maps := clientset(t, s).CoreV1().ConfigMaps("default")
	if _, err := maps.Create(ctx, cm("a"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	many := `[` + strings.Repeat(`{"op":"add","path":"/data","value":{}},`, 10_001)
	many = many[:len(many)-1] + `]`
	double := `[{"op":"add","path":"/metadata/annotations","value":{"x":"` + strings.Repeat("y", 1000) + `"}}`
	for i := range 40 {
		double += fmt.Sprintf(`,{"op":"copy","from":"/metadata","path":"/metadata/c%d"}`, i)
	}
	double += `]`
	for name, patch := range map[string]string{"many operations": many, "copies of copies": double} {
		begun := time.Now()
		_, err := maps.Patch(ctx, "a", types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
		var st apierrors.APIStatus
		if err == nil || !asStatus(err, &st) || st.Status().Code/100 != 4 {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'm'; c++ {
		bomb += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	for name, body := range map[string]string{
		"YAML bomb": bomb, "deep flow": strings.Repeat("[", 100_000), "deep dashes": strings.Repeat("- ", 100_000),
		"too large": "data: {x: " + strings.Repeat("x", 4<<20) + "}",
	} {
		begun := time.Now()
		res := clientset(t, s).CoreV1().RESTClient().Post().AbsPath("/api/v1/namespaces/default/configmaps").
			SetHeader("Content-Type", "application/yaml").Body([]byte(body)).Do(ctx)
		var st apierrors.APIStatus
		if res.Error() == nil || !asStatus(res.Error(), &st) || st.Status().Code/100 != 4 {
			t.Errorf("%s: %v", name, res.Error())
		}
		if took := time.Since(begun); took > 500*time.Millisecond {
			t.Errorf("%s took %s", name, took)
		}
	}
}

func asStatus(err error, to *apierrors.APIStatus) bool {
	st, ok := err.(apierrors.APIStatus)
	*to = st
	return ok
}

func TestInsecurePort(t *testing.T) {
	s := apiservertest.New(t, func(c *apiserver.Config) { c.InsecurePort = -1 })
	get := func(host, origin string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.InsecureURL()+"/api/v1/namespaces/default", nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host
		}
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	code, body := get("", "")
	var ns corev1.Namespace
	if code != 200 || json.Unmarshal([]byte(body), &ns) != nil || ns.Name != "default" {
		t.Errorf("a local program: %d %s", code, body)
	}
	if code, _ := get("evil.example", ""); code != 403 {
		t.Errorf("DNS rebinding: %d", code)
	}
	if code, _ := get("", "https://evil.example"); code != 403 {
		t.Errorf("a web page: %d", code)
	}
}
