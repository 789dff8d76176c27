// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/kube-openapi/pkg/validation/spec"
)

func TestMergeOfAnotherServer(t *testing.T) {
	doc := func(text string) *spec.Swagger {
		s := &spec.Swagger{}
		if err := json.Unmarshal([]byte(text), s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	own := `{"swagger":"2.0","paths":{"/apis/apps/v1":{}},"definitions":{"io.Meta":{"type":"object"}}}`
	for name, c := range map[string]struct {
		other      string
		has, hasNo []string
	}{
		"a path and its schema": {
			`{"paths":{"/apis/w/v1/f":{"get":{"responses":{"200":{"description":"","schema":{"$ref":"#/definitions/w.F"}}}}}},"definitions":{"w.F":{"type":"object"}}}`,
			[]string{`"/apis/w/v1/f"`, `"w.F"`, `"/apis/apps/v1"`}, nil,
		},
		"a schema of our name that differs": {
			`{"paths":{"/apis/w/v1/f":{"get":{"responses":{"200":{"description":"","schema":{"$ref":"#/definitions/io.Meta"}}}}}},"definitions":{"io.Meta":{"type":"string"}}}`,
			[]string{`"io.Meta":{"type":"object"}`, `"io.Meta_v2":{"type":"string"}`}, nil,
		},
		"no document":         {``, []string{`"/apis/apps/v1"`}, nil},
		"no JSON":             {`{"paths":`, []string{`"/apis/apps/v1"`}, nil},
		"no paths":            {`{"definitions":{"w.F":{}}}`, []string{`"/apis/apps/v1"`}, []string{"w.F"}},
		"a path that is ours": {`{"paths":{"/apis/apps/v1":{"get":{"operationId":"theirs"}}}}`, []string{`"/apis/apps/v1"`}, []string{"theirs"}},
	} {
		merged, err := merge(doc(own), []Foreign{{V2: []byte(c.other)}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b, err := json.Marshal(merged)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.has {
			if !strings.Contains(string(b), want) {
				t.Errorf("%s: %s is missing in %s", name, want, b)
			}
		}
		for _, not := range c.hasNo {
			if strings.Contains(string(b), not) {
				t.Errorf("%s: %s is in %s", name, not, b)
			}
		}
	}
}
