// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/apiserver/apiservertest"
)

// TestApplyJudgesWhatItReads: a key that comes twice is refused or told, as the client wants; what no schema knows is always refused.
func TestApplyJudgesWhatItReads(t *testing.T) {
	s := apiservertest.New(t)
	c := clientset(t, s)
	const head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n"
	for _, x := range []struct{ body, validation, want string }{
		{head + "data:\n  a: one\n  a: two\n", "Strict", `line 6: key "a" already set in map`},
		{head + "data:\n  a: one\n  a: two\n", "Warn", ""},
		{head + "datta: {}\n", "Ignore", ".datta: field not declared in schema"},
		{head + "data: {a: one}\n", "Strict", ""},
	} {
		err := c.CoreV1().RESTClient().Patch(types.ApplyPatchType).Namespace("default").Resource("configmaps").Name("m").
			Param("fieldManager", "test").Param("fieldValidation", x.validation).Body([]byte(x.body)).Do(t.Context()).Error()
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%s %q: %v, want %q", x.validation, x.body, err, x.want)
		}
	}
}

// TestPagesCountWhatIsLeft: every page of a list says how many come after, also when it is of an earlier revision.
func TestPagesCountWhatIsLeft(t *testing.T) {
	s := apiservertest.New(t)
	c := clientset(t, s).CoreV1().ConfigMaps("default")
	for _, name := range strings.Split("a b c d e f g", " ") {
		if _, err := c.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := c.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	opts, seen := metav1.ListOptions{Limit: 3}, 0
	for {
		page, err := c.List(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		seen += len(page.Items)
		if page.Continue == "" {
			if page.RemainingItemCount != nil {
				t.Errorf("after the last page %d come", *page.RemainingItemCount)
			}
			break
		}
		if page.RemainingItemCount == nil || int(*page.RemainingItemCount)+seen != len(all.Items) {
			t.Fatalf("after %d of %d: %v come", seen, len(all.Items), page.RemainingItemCount)
		}
		opts.Continue = page.Continue
	}
	if seen != len(all.Items) {
		t.Errorf("pages have %d, the list %d", seen, len(all.Items))
	}
}
