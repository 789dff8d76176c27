// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"github.com/knarr/knarr/kinds"
)

func sample() *corev1.Pod {
	p := pod("default", "web", "node-1", "rs")
	p.ResourceVersion = "77"
	p.Labels = map[string]string{"app": "web"}
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "nginx:1.8", Env: []corev1.EnvVar{{Name: "A", Value: "b"}}}}
	p.Status.Phase = corev1.PodRunning
	return p
}

// TestStoredFormIsKubernetes compares with the encoder that the API servers of Kubernetes store with.
func TestStoredFormIsKubernetes(t *testing.T) {
	p := sample()
	got, err := Encode(pods, p)
	if err != nil {
		t.Fatal(err)
	}
	if p.ResourceVersion != "77" {
		t.Error("Encode wrote to the object")
	}
	q := p.DeepCopy()
	q.ResourceVersion = ""
	q.APIVersion, q.Kind = "v1", "Pod"
	var want bytes.Buffer
	if err := protobuf.NewSerializer(kinds.Scheme(), kinds.Scheme()).Encode(q, &want); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("stored form differs:\n%q\n%q", got, want.Bytes())
	}
}

func TestDecodeReadsProtobufAndJSON(t *testing.T) {
	p := sample()
	p.ResourceVersion = ""
	p.APIVersion, p.Kind = "v1", "Pod"
	stored, err := Encode(pods, p)
	if err != nil {
		t.Fatal(err)
	}
	asJSON, _ := json.Marshal(p)
	for what, value := range map[string][]byte{"protobuf": stored, "JSON": asJSON} {
		got, err := Decode(pods, value)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if !equality.Semantic.DeepEqual(got, p) {
			t.Errorf("%s: %+v\nwant %+v", what, got, p)
		}
	}
}

func TestEveryKindHasAStoredForm(t *testing.T) {
	for _, k := range kinds.All {
		obj := k.New()
		obj.SetName("x")
		b, err := Encode(k, obj)
		if err != nil {
			t.Errorf("%s: %v", k.Kind, err)
			continue
		}
		back, err := Decode(k, b)
		if err != nil || back.GetName() != "x" || back.GetObjectKind().GroupVersionKind() != k.GroupVersionKind {
			t.Errorf("%s: %v %v", k.Kind, back, err)
		}
	}
}

func TestDecodeRefusesWhatIsNotTheKind(t *testing.T) {
	cm, _ := Encode(kinds.For[corev1.ConfigMap](), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}})
	for what, value := range map[string][]byte{
		"another kind": cm, "nothing": nil, "noise": []byte("k8s\x00\xff\xff\xff"), "a JSON list": []byte("[]"), "no kind": []byte("{}"),
	} {
		if _, err := Decode(pods, value); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, _ := Encode(pods, sample())
	f.Add(b)
	f.Add([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		obj, err := Decode(pods, b)
		if err != nil {
			return
		}
		if _, err := Encode(pods, obj); err != nil {
			t.Skip() // strings that are no UTF-8
		}
	})
}
