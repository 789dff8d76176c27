// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	_ "embed"
	"encoding/json"
	"reflect"
	"strings"

	"k8s.io/kube-openapi/pkg/validation/spec"
)

// markersText holds what k8s.io/api says about its types in comments alone. One line a type ("k8s.io/api/core/v1.Container")
// or, indented, a field of it ("ports"), then words: list=map keys=containerPort,protocol map=atomic struct=atomic optional
// default=JSON enum=A,B. Written by `go test ./apiserver/openapi -update`.
//
//go:embed markers.txt
var markersText string

// marker is what the comments say of one type or field.
type marker struct {
	list, mapType, structType string
	keys, enum                []string
	optional                  bool
	fallback                  string // the default, as JSON
}

// markers are by type, then by field; "" is the type itself.
type markers map[string]map[string]marker

func readMarkers() markers {
	out := markers{}
	var fields map[string]marker
	for line := range strings.Lines(markersText) {
		name, words, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" || name == "#" {
			continue
		}
		if !strings.HasPrefix(line, " ") {
			fields = map[string]marker{"": readMarker(words)}
			out[name] = fields
			continue
		}
		fields[name] = readMarker(words)
	}
	return out
}

func readMarker(words string) marker {
	m := marker{}
	for _, w := range strings.Fields(words) {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "list":
			m.list = value
		case "keys":
			m.keys = strings.Split(value, ",")
		case "map":
			m.mapType = value
		case "struct":
			m.structType = value
		case "optional":
			m.optional = true
		case "default":
			m.fallback = value
		case "enum":
			m.enum = strings.Split(value, ",")
		}
	}
	return m
}

// of is the marker of a type's field, or of the type itself.
func (m markers) of(t reflect.Type, field string) marker {
	return m[t.PkgPath()+"."+t.Name()][field]
}

// extend adds a field's marker to its schema.
func (m marker) extend(s *spec.Schema) {
	if m.list != "" {
		s.AddExtension("x-kubernetes-list-type", m.list)
	}
	if len(m.keys) > 0 {
		keys := []any{}
		for _, k := range m.keys {
			keys = append(keys, k)
		}
		s.AddExtension("x-kubernetes-list-map-keys", keys)
	}
	if m.mapType != "" {
		s.AddExtension("x-kubernetes-map-type", m.mapType)
	}
	if m.structType != "" {
		s.AddExtension("x-kubernetes-map-type", m.structType)
	}
	if m.fallback != "" {
		var v any
		if json.Unmarshal([]byte(m.fallback), &v) == nil {
			s.Default = v
		}
	}
}
