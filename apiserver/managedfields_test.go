// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/apiserver/apiservertest"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/client"
)

// book shows who is noted for what: manager, operation, subresource, and whether fields are named.
func book(o metav1.Object) string {
	var out []string
	for _, m := range o.GetManagedFields() {
		sub := ""
		if m.Subresource != "" {
			sub = "/" + m.Subresource
		}
		out = append(out, fmt.Sprintf("%s %s%s %s", m.Manager, m.Operation, sub, m.FieldsV1.GetRawString()))
	}
	return strings.Join(out, "; ")
}

func TestManagedFieldsFromTheFirstWrite(t *testing.T) {
	s := apiservertest.New(t)
	s.Account(t, "default")
	cs := clientset(t, s)
	maps := cs.CoreV1().ConfigMaps("default")
	cm, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Data: map[string]string{"x": "1"}}, metav1.CreateOptions{FieldManager: "first"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := book(cm), `first Update {"f:data":{".":{},"f:x":{}}}`; got != want {
		t.Errorf("after create: %s, want %s", got, want)
	}
	cm.Data["y"] = "2"
	cm, err = maps.Update(t.Context(), cm, metav1.UpdateOptions{FieldManager: "second"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := book(cm), `first Update {"f:data":{".":{},"f:x":{}}}; second Update {"f:data":{"f:y":{}}}`; got != want {
		t.Errorf("after update: %s, want %s", got, want)
	}
	rv := cm.ResourceVersion
	if cm, err = maps.Update(t.Context(), cm, metav1.UpdateOptions{FieldManager: "third"}); err != nil || cm.ResourceVersion != rv {
		t.Errorf("an update that changes nothing is written: %s, then %s, %v", rv, cm.ResourceVersion, err)
	}
	_, err = maps.Patch(t.Context(), "a", types.ApplyPatchType, []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"x":"3"}}`), metav1.PatchOptions{FieldManager: "applier"})
	if err == nil || !strings.Contains(err.Error(), `conflict with "first" using v1: .data.x`) {
		t.Errorf("an apply of another's field: %v", err)
	}
	// A client that resets the book, as kubectl's migration does.
	cm.ManagedFields = []metav1.ManagedFieldsEntry{{}}
	if cm, err = maps.Update(t.Context(), cm, metav1.UpdateOptions{FieldManager: "reset"}); err != nil || len(cm.ManagedFields) != 0 {
		t.Errorf("after a reset: %s, %v", book(cm), err)
	}

	pods := cs.CoreV1().Pods("default")
	p, err := pods.Create(t.Context(), pod("p"), metav1.CreateOptions{FieldManager: "maker"})
	if err != nil {
		t.Fatal(err)
	}
	p.Status.Phase = corev1.PodRunning
	if p, err = pods.UpdateStatus(t.Context(), p, metav1.UpdateOptions{FieldManager: "kubelet"}); err != nil {
		t.Fatal(err)
	}
	if got := book(p); !strings.Contains(got, `maker Update {"f:spec":{`) || !strings.Contains(got, `kubelet Update/status {"f:status":{"f:phase":{}}}`) ||
		!strings.Contains(got, `"f:containers":{"k:{\"name\":\"c\"}":{`) || strings.Contains(got, "f:volumes") {
		t.Errorf("of a pod and its status: %s", got)
	}
	// What only this process writes has none.
	got, err := s.Admin.Do(t.Context(), client.Request{Verb: client.Create, Type: kinds.For[corev1.ConfigMap](), Namespace: "default",
		Object: &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "own", Namespace: "default"}}})
	if err != nil || book(got) != "" {
		t.Errorf("of a component in this process: %v, %v", got, err)
	}
}
