// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/knarr/knarr/apiserver"
	"github.com/knarr/knarr/apiserver/apiservertest"
	"github.com/knarr/knarr/apiserver/auth"
)

// past is the history of an object, a line each: verb, user, and the value of .data.v.
func past(t *testing.T, c kubernetes.Interface, path string) ([]int64, []string, error) {
	t.Helper()
	b, err := c.CoreV1().RESTClient().Get().AbsPath(apiserver.PathHistory + path).DoRaw(t.Context())
	if err != nil {
		return nil, nil, err
	}
	var h struct {
		Items []struct {
			Revision   int64
			Verb, User string
			Object     struct {
				Data map[string]string
				Spec map[string]any
			}
		}
	}
	if err := json.Unmarshal(b, &h); err != nil {
		t.Fatal(err)
	}
	var revs []int64
	var lines []string
	for _, x := range h.Items {
		revs = append(revs, x.Revision)
		lines = append(lines, fmt.Sprint(x.Verb, " ", x.User, " ", x.Object.Data["v"], x.Object.Spec["image"]))
	}
	return revs, lines, nil
}

func undo(t *testing.T, c kubernetes.Interface, path string, query ...string) error {
	t.Helper()
	r := c.CoreV1().RESTClient().Post().AbsPath(apiserver.PathUndo + path)
	for i := 0; i+1 < len(query); i += 2 {
		r = r.Param(query[i], query[i+1])
	}
	return r.Do(t.Context()).Error()
}

func TestHistoryAndUndo(t *testing.T) {
	s := apiservertest.New(t)
	c := clientset(t, s)
	ctx := t.Context()
	maps := c.CoreV1().ConfigMaps("default")
	const path = "/api/v1/namespaces/default/configmaps/web"
	write := func(v string) *corev1.ConfigMap {
		t.Helper()
		m, err := maps.Update(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Data: map[string]string{"v": v}}, metav1.UpdateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	value := func(want string) *corev1.ConfigMap {
		t.Helper()
		m, err := maps.Get(ctx, "web", metav1.GetOptions{})
		if err != nil || m.Data["v"] != want {
			t.Fatalf("%v, want %s: %v", m.Data, want, err)
		}
		return m
	}
	if _, _, err := past(t, c, path); !apierrors.IsNotFound(err) {
		t.Fatalf("what never was: %v", err)
	}
	first, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Data: map[string]string{"v": "one"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	write("two")
	if err := undo(t, c, path, "dryRun", "All"); err != nil {
		t.Fatal(err)
	}
	value("two")
	if err := undo(t, c, path); err != nil {
		t.Fatal(err)
	}
	if m := value("one"); m.UID != first.UID {
		t.Error("undo of a change made another object")
	}
	write("three")
	if err := maps.Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := undo(t, c, path); err != nil {
		t.Fatal(err)
	}
	if m := value("three"); m.UID == first.UID {
		t.Error("a new life has the UID of the one before")
	}
	revs, lines, err := past(t, c, path)
	admin := auth.Admin().Name
	want := []string{"create " + admin + " one<nil>", "update " + admin + " two<nil>", "update " + admin + " one<nil>", "update " + admin + " three<nil>", "delete " + admin + " <nil>", "create " + admin + " three<nil>"}
	if err != nil || strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Fatalf("history %v\n%s\nwant\n%s", err, strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if err := undo(t, c, path, "to", fmt.Sprint(revs[1])); err != nil {
		t.Fatal(err)
	}
	value("two")
	for to, text := range map[string]string{fmt.Sprint(revs[4]): "was deleted", "999999": "has no revision", "x": "want a number"} {
		if err := undo(t, c, path, "to", to); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("to %s: %v, want %q", to, err, text)
		}
	}
	if err := s.Store.Compact(ctx, revs[3]); err != nil {
		t.Fatal(err)
	}
	if err := undo(t, c, path, "to", fmt.Sprint(revs[0])); err == nil || !strings.Contains(err.Error(), "forgotten") {
		t.Errorf("a compacted revision: %v", err)
	}
	if _, lines, err := past(t, c, path); err != nil || lines[0] != "found "+admin+" three<nil>" {
		t.Errorf("after a compaction: %v %v", lines, err)
	}
}

func TestHistoryOfCustomObjects(t *testing.T) {
	s := apiservertest.New(t)
	c := clientset(t, s)
	const path = "/apis/stable.example.com/v1/namespaces/default/crontabs/my"
	run := func(stdin string, args ...string) {
		t.Helper()
		if out, err := kubectl(t, s, stdin, append(args, "--cache-dir", t.TempDir())...); err != nil {
			t.Fatal(out, err)
		}
	}
	run(crontabs, "create", "-f", "-")
	run("", "wait", "--for", "condition=established", "--timeout=5s", "crd/crontabs.stable.example.com")
	const head = "apiVersion: stable.example.com/v1\nkind: CronTab\nmetadata: {name: my}\n"
	run(head+"spec: {image: one}", "apply", "-f", "-")
	run(head+"spec: {image: two}", "apply", "-f", "-")
	run("", "delete", "crontab", "my")
	if err := undo(t, c, path); err != nil {
		t.Fatal(err)
	}
	_, lines, err := past(t, c, path)
	if err != nil || len(lines) != 4 || !strings.HasSuffix(lines[3], "two") || !strings.HasPrefix(lines[3], "create") {
		t.Fatalf("%v %v", lines, err)
	}
}

// What the past holds needs the rights of the present.
func TestHistoryNeedsTheRightsOfTheObject(t *testing.T) {
	s := apiservertest.New(t)
	admin := clientset(t, s)
	ctx := t.Context()
	if _, err := admin.CoreV1().Secrets("default").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "x"}, StringData: map[string]string{"v": "1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CoreV1().Secrets("default").Update(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "x"}, StringData: map[string]string{"v": "2"}}, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	const path = "/api/v1/namespaces/default/secrets/x"
	ada := as(t, s, auth.User{Name: "ada"})
	grant := func(name string, verbs ...string) {
		t.Helper()
		role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: verbs}}}
		binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name}, Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "ada"}}}
		if _, err := admin.RbacV1().Roles("default").Create(ctx, role, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := admin.RbacV1().RoleBindings("default").Create(ctx, binding, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	forbidden := func(what string, err error) {
		t.Helper()
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v, want 403", what, err)
		}
	}
	_, _, err := past(t, ada, path)
	forbidden("history without any right", err)
	grant("writer", "update", "create", "delete")
	_, _, err = past(t, ada, path)
	forbidden("history with the right to write alone", err)
	forbidden("undo without get", undo(t, ada, path))
	grant("reader", "get")
	eventually(t, "history with get", func() bool {
		_, lines, err := past(t, ada, path)
		return err == nil && len(lines) == 2
	})
	if err := undo(t, ada, path); err != nil {
		t.Errorf("undo with get and update: %v", err)
	}
	if err := admin.RbacV1().RoleBindings("default").Delete(ctx, "writer", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "undo with get alone is refused", func() bool { return apierrors.IsForbidden(undo(t, ada, path)) })
	for _, p := range []string{"/api/v1/namespaces/default/secrets", "/api/v1/namespaces/default/pods/x/exec", "/version"} {
		if _, _, err := past(t, ada, p); err == nil {
			t.Errorf("history of %s", p)
		}
	}
}
