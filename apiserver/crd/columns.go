// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/util/jsonpath"

	"github.com/knarr/knarr/kinds"
)

// path finds one value by a JSON path. It may be used concurrently, which the library's own parser may not.
type path struct {
	mu  sync.Mutex // guards p, which keeps state while it evaluates
	p   *jsonpath.JSONPath
	err error
}

func newPath(text string) *path {
	p := &path{p: jsonpath.New("column").AllowMissingKeys(true)}
	p.err = p.p.Parse("{" + text + "}")
	return p
}

// find is nil for what is not there.
func (p *path) find(c *kinds.Custom) any {
	if p.err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	results, err := p.p.FindResults(c.Object)
	if err != nil || len(results) == 0 || len(results[0]) == 0 {
		return nil
	}
	return results[0][0].Interface()
}

// text is how a value prints in a column of strings.
func (p *path) text(value any) any {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	if err := p.p.PrintResults(&b, []reflect.Value{reflect.ValueOf(value)}); err != nil {
		return nil
	}
	return b.String()
}

// columns are the name and what the definition says; without it, the age.
func columns(defs []apiextensionsv1.CustomResourceColumnDefinition) []kinds.Column[kinds.Object] {
	out := []kinds.Column[kinds.Object]{{
		Name: "Name", Format: "name", Description: "The name, unique among the objects of its kind in a namespace.",
		Cell: func(o *kinds.Object, _ time.Time) any { return (*o).GetName() },
	}}
	if len(defs) == 0 {
		defs = []apiextensionsv1.CustomResourceColumnDefinition{{
			Name: "Age", Type: "date", JSONPath: ".metadata.creationTimestamp", Description: "How long ago the object was created.",
		}}
	}
	for _, d := range defs {
		p := newPath(d.JSONPath)
		description := d.Description
		if description == "" {
			description = "Custom resource definition column (in JSONPath format): " + d.JSONPath
		}
		out = append(out, kinds.Column[kinds.Object]{
			Name: d.Name, Type: d.Type, Format: d.Format, Priority: d.Priority, Description: description,
			Cell: func(o *kinds.Object, now time.Time) any {
				value := p.find(custom(*o))
				if value == nil {
					return nil
				}
				if d.Type == "string" {
					return p.text(value)
				}
				return cell(d.Type, value, now)
			},
		})
	}
	return out
}

// cell is a value in a column of a type; nil where it is of another.
func cell(typ string, value any, now time.Time) any {
	switch v := value.(type) {
	case int64:
		switch typ {
		case "integer":
			return v
		case "number":
			return float64(v)
		}
	case float64:
		switch typ {
		case "integer":
			return int64(v)
		case "number":
			return v
		}
	case bool:
		if typ == "boolean" {
			return v
		}
	case string:
		if typ == "date" {
			var t metav1.Time
			if t.UnmarshalQueryParameter(v) != nil {
				return "<invalid>"
			}
			if t.IsZero() {
				return "<unknown>"
			}
			return duration.HumanDuration(now.Sub(t.Time))
		}
	}
	return nil
}

// selectable gives the fields that selectors may name.
func selectable(list []apiextensionsv1.SelectableField) func(kinds.Object) fields.Set {
	if len(list) == 0 {
		return objectFields
	}
	paths := map[string]*path{}
	for _, f := range list {
		paths[strings.TrimPrefix(f.JSONPath, ".")] = newPath(f.JSONPath)
	}
	return func(o kinds.Object) fields.Set {
		set := objectFields(o)
		for name, p := range paths {
			set[name] = ""
			if v := p.find(custom(o)); v != nil {
				set[name] = fmt.Sprint(v)
			}
		}
		return set
	}
}
