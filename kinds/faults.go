// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// faults collects what is wrong with one object, so that rules read as one line each. The texts are Kubernetes': people
// and scripts know them.
type faults struct{ list field.ErrorList }

func (f *faults) add(errs ...*field.Error) { f.list = append(f.list, errs...) }

func (f *faults) required(p *field.Path, detail string)       { f.add(field.Required(p, detail)) }
func (f *faults) forbidden(p *field.Path, detail string)      { f.add(field.Forbidden(p, detail)) }
func (f *faults) invalid(p *field.Path, v any, detail string) { f.add(field.Invalid(p, v, detail)) }

// each adds one fault for each sentence a checker of apimachinery found.
func (f *faults) each(p *field.Path, value any, sentences []string) {
	for _, s := range sentences {
		f.invalid(p, value, s)
	}
}

// need says whether value is there, and reports it when not.
func (f *faults) need(p *field.Path, value string) bool {
	if value == "" {
		f.required(p, "")
	}
	return value != ""
}

func (f *faults) nonNegative(p *field.Path, n int64) {
	if n < 0 {
		f.invalid(p, n, "must be greater than or equal to 0")
	}
}

func (f *faults) positive(p *field.Path, n int64) {
	if n <= 0 {
		f.invalid(p, n, "must be greater than 0")
	}
}

func (f *faults) between(p *field.Path, n, low, high int64) {
	if n < low || n > high {
		f.invalid(p, n, validation.InclusiveRangeError(int(low), int(high)))
	}
}

func (f *faults) port(p *field.Path, n int32) { f.each(p, n, validation.IsValidPortNum(int(n))) }

// immutable reports a field that changed though it must not.
func (f *faults) immutable(p *field.Path, new, old any) {
	if !equality.Semantic.DeepEqual(new, old) {
		f.invalid(p, new, "field is immutable")
	}
}

// oneOf reports a value outside the allowed ones; an empty value is reported as missing.
func oneOf[V ~string](f *faults, p *field.Path, v V, allowed ...V) {
	switch {
	case v == "":
		f.required(p, "")
	case !slices.Contains(allowed, v):
		f.add(field.NotSupported(p, v, allowed))
	}
}

// supported is oneOf where upstream calls an empty value unsupported rather than missing.
func supported[V ~string](f *faults, p *field.Path, v V, allowed ...V) {
	if !slices.Contains(allowed, v) {
		f.add(field.NotSupported(p, v, allowed))
	}
}

// unique reports the second and later occurrence of a value; empty values do not count.
type unique map[string]bool

func (u unique) check(f *faults, p *field.Path, v string) {
	if v == "" {
		return
	}
	if u[v] {
		f.add(field.Duplicate(p, v))
	}
	u[v] = true
}

// pathSegment is the rule for names that may hold more than DNS does (system:node), but must stay one part of a URL.
func pathSegment(name string, prefix bool) []string {
	if prefix {
		return content.IsPathSegmentPrefix(name)
	}
	return content.IsPathSegmentName(name)
}
