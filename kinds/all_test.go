// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"bytes"
	"os"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

func every() []*Type { return slices.Concat(All, Virtual) }

// sample is the kind's well-formed object in testdata, as its author wrote it.
func sample(t *testing.T, k *Type) Object {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + k.Singular + ".yaml")
	if err != nil {
		t.Fatalf("every kind has a sample: %v", err)
	}
	o := k.New()
	if err := yaml.UnmarshalStrict(raw, o); err != nil {
		t.Fatal(err)
	}
	if got := o.GetObjectKind().GroupVersionKind(); got != k.GroupVersionKind {
		t.Fatalf("the sample is a %s", got)
	}
	if !k.Cluster && o.GetNamespace() == "" {
		o.SetNamespace("default")
	}
	o.SetCreationTimestamp(metav1.NewTime(time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC)))
	return o
}

// settled is the sample as the server stores it.
func settled(t *testing.T, k *Type) Object {
	t.Helper()
	o := sample(t, k)
	k.Default(o)
	k.BeforeCreate(o)
	return o
}

func TestEveryKind(t *testing.T) {
	for _, k := range every() {
		t.Run(k.Kind, func(t *testing.T) {
			t.Run("the sample is valid once defaulted", func(t *testing.T) {
				o := settled(t, k)
				for _, e := range k.Validate(o) {
					t.Error(e)
				}
				for _, e := range k.ValidateUpdate(o, o) {
					t.Errorf("update with itself: %v", e)
				}
				for _, e := range k.ValidateStatus(o, o) {
					t.Errorf("status update with itself: %v", e)
				}
				if o.GetName() != "" {
					for _, s := range k.ValidateName(o.GetName(), false) {
						t.Error(s)
					}
				}
			})
			t.Run("defaults are idempotent", func(t *testing.T) {
				once := settled(t, k)
				twice := once.DeepCopyObject().(Object)
				k.Default(twice)
				if !equality.Semantic.DeepEqual(once, twice) {
					t.Errorf("defaulting again changes it")
				}
				k.BeforeUpdate(twice, once)
				if !equality.Semantic.DeepEqual(once, twice) {
					t.Errorf("an update with itself changes it")
				}
				k.Default(k.New())
			})
			t.Run("survives JSON and protobuf", func(t *testing.T) { roundTrip(t, k) })
			t.Run("survives every served version", func(t *testing.T) {
				o := settled(t, k)
				o.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
				for _, v := range k.Served {
					got := v.ToHub(v.FromHub(o))
					got.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
					if !equality.Semantic.DeepEqual(o, got) {
						t.Errorf("%s loses something", v.GroupVersionKind)
					}
				}
			})
			t.Run("each column is filled and documented", func(t *testing.T) { columns(t, k) })
			t.Run("fields have one set of keys", func(t *testing.T) {
				full, empty := k.Fields(settled(t, k)), k.Fields(k.New())
				for key := range full {
					if _, ok := empty[key]; !ok {
						t.Errorf("%s is missing in an empty object", key)
					}
				}
			})
			t.Run("the spec decides about generations", func(t *testing.T) {
				o := settled(t, k)
				other := o.DeepCopyObject().(Object)
				other.SetLabels(map[string]string{"x": "y"})
				k.CopyStatus(other, k.New())
				if !k.SpecEqual(o, other) {
					t.Error("labels and status count as spec")
				}
			})
		})
	}
}

func roundTrip(t *testing.T, k *Type) {
	o := settled(t, k)
	o.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
	js := json.NewSerializerWithOptions(json.DefaultMetaFactory, Scheme(), Scheme(), json.SerializerOptions{Strict: true})
	pb := protobuf.NewSerializer(Scheme(), Scheme())
	for name, s := range map[string]runtime.Serializer{"JSON": js, "protobuf": pb} {
		if _, ok := o.(interface{ Marshal() ([]byte, error) }); !ok && name == "protobuf" {
			continue // stored and sent as JSON, as custom resources are
		}
		raw, err := encode(s, o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, gvk, err := s.Decode(raw, nil, nil)
		if err != nil || *gvk != k.GroupVersionKind {
			t.Fatalf("%s: %v as %v", name, err, gvk)
		}
		got.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
		k.Restore(got.(Object))
		if !equality.Semantic.DeepEqual(o, got) {
			t.Errorf("%s loses something", name)
		}
	}
}

func columns(t *testing.T, k *Type) {
	if k.Virtual {
		return
	}
	o := settled(t, k)
	if len(k.Columns) == 0 {
		t.Fatal("no columns")
	}
	names := 0
	for _, c := range k.Columns {
		if c.Description == "" {
			t.Errorf("%s has no description", c.Name)
		}
		if c.Format == "name" {
			names++
		}
		switch v := c.Cell(&o, o.GetCreationTimestamp().Add(time.Minute)).(type) {
		case string, int64, bool:
		default:
			t.Errorf("%s is a %T: tables carry strings, int64 and bool", c.Name, v)
		}
		empty := k.New()
		c.Cell(&empty, time.Time{})
	}
	if names != 1 {
		t.Errorf("%d columns are names", names)
	}
}

// texts are the faults as a client reads them.
func texts(list field.ErrorList) []string {
	out := []string{}
	for _, e := range list {
		out = append(out, e.Error())
	}
	slices.Sort(out)
	return out
}

func encode(s runtime.Serializer, o Object) ([]byte, error) {
	buf := &bytes.Buffer{}
	err := s.Encode(o, buf)
	return buf.Bytes(), err
}
