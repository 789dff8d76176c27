// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"encoding/json"
	"os"
	"regexp"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/yaml"
)

// tinyNumber finds quantities such as 1e-99999999, whose parsing in apimachinery takes minutes. Decoding is not ours to
// test: the API server refuses them before.
var tinyNumber = regexp.MustCompile(`[eE]-[0-9]{4,}`)

// FuzzObject: whatever a client sends as JSON, defaults and validation answer and do not panic, and defaults settle at once.
func FuzzObject(f *testing.F) {
	for i, k := range every() {
		raw, err := os.ReadFile("testdata/" + k.Singular + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		js, err := yaml.YAMLToJSON(raw)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), js)
		f.Add(uint8(i), []byte(`{"spec":{"template":{"spec":{"containers":[{}]}},"containers":[{"env":[{"valueFrom":{}}],"livenessProbe":{}}],"volumes":[{"projected":{"sources":[{}]}}],"ports":[{}]}}`))
	}
	f.Fuzz(func(t *testing.T, i uint8, raw []byte) {
		if tinyNumber.Match(raw) {
			return
		}
		k := every()[int(i)%len(every())]
		o := k.New()
		if json.Unmarshal(raw, o) != nil {
			return
		}
		k.Default(o)
		once := o.DeepCopyObject().(Object)
		k.Default(o)
		if !equality.Semantic.DeepEqual(once, o) {
			t.Error("defaults are not idempotent")
		}
		k.BeforeCreate(o)
		k.Validate(o)
		k.Fields(o)
		k.SpecEqual(o, once)
		k.ValidateUpdate(o, k.New())
		k.ValidateUpdate(k.New(), o)
		k.ValidateStatus(o, once)
		k.BeforeUpdate(o, once)
		for _, c := range k.Columns {
			c.Cell(&o, time.Time{})
		}
		for _, v := range k.Served {
			v.Default(v.ToHub(v.FromHub(o)))
		}
	})
}
