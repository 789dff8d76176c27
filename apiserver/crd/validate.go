// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"context"
	"math"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crcel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	crvalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"

	"github.com/knarr/knarr/kinds"
)

// judges are what a version's objects are judged by, compiled when the first one is.
type judges struct {
	whole, status crvalidation.SchemaValidator // nil accepts
	rules         *crcel.Validator             // nil: the schema has no CEL rules
	err           error
}

func (v *crdVersion) newJudges() *judges {
	s, j := v.schema(), &judges{}
	if s.internal == nil {
		return j
	}
	if j.whole, _, j.err = crvalidation.NewSchemaValidator(s.internal); j.err != nil {
		return j
	}
	if st, ok := s.internal.Properties["status"]; ok {
		if j.status, _, j.err = crvalidation.NewSchemaValidator(&st); j.err != nil {
			return j
		}
	}
	if s.structural != nil {
		j.rules = crcel.NewValidator(s.structural, true, celconfig.PerCallLimit)
	}
	return j
}

func (v *crdVersion) validate(c *kinds.Custom) field.ErrorList {
	j, s := v.judges(), v.schema()
	if j.err != nil {
		return field.ErrorList{field.InternalError(nil, j.err)}
	}
	var list field.ErrorList
	if j.whole != nil {
		list = append(list, crvalidation.ValidateCustomResource(nil, c.Object, j.whole)...)
	}
	list = append(list, v.scaleFaults(c, true)...)
	if s.structural == nil {
		return list
	}
	ctx := kinds.Pure{}
	list = append(list, objectmeta.Validate(ctx, nil, c.Object, s.structural, false)...)
	list = append(list, listtype.ValidateListSetsAndMaps(nil, s.structural, c.Object)...)
	return append(list, v.rules(ctx, j, list, c, nil)...)
}

func (v *crdVersion) validateUpdate(c, old *kinds.Custom) field.ErrorList {
	j, s := v.judges(), v.schema()
	if j.err != nil {
		return field.ErrorList{field.InternalError(nil, j.err)}
	}
	if s.structural == nil {
		var list field.ErrorList
		if j.whole != nil {
			list = crvalidation.ValidateCustomResource(nil, c.Object, j.whole)
		}
		return append(list, v.scaleFaults(c, true)...)
	}
	ctx := kinds.Pure{}
	pair := common.NewCorrelatedObject(c.Object, old.Object, &model.Structural{Structural: s.structural})
	list := crvalidation.ValidateCustomResourceUpdate(nil, c.Object, old.Object, j.whole, crvalidation.WithRatcheting(pair))
	list = append(list, v.scaleFaults(c, true)...)
	list = append(list, objectmeta.Validate(ctx, nil, c.Object, s.structural, false)...)
	if len(listtype.ValidateListSetsAndMaps(nil, s.structural, old.Object)) == 0 {
		list = append(list, listtype.ValidateListSetsAndMaps(nil, s.structural, c.Object)...)
	}
	return append(list, v.rules(ctx, j, list, c, old, crcel.WithRatcheting(pair))...)
}

func (v *crdVersion) validateStatus(c, old *kinds.Custom) field.ErrorList {
	j, s := v.judges(), v.schema()
	if j.err != nil {
		return field.ErrorList{field.InternalError(nil, j.err)}
	}
	list := v.scaleFaults(c, false)
	if s.structural == nil {
		return list
	}
	ctx := kinds.Pure{}
	pair := common.NewCorrelatedObject(c.Object, old.Object, &model.Structural{Structural: s.structural})
	if status, ok := c.Object["status"]; ok && j.status != nil {
		list = append(list, crvalidation.ValidateCustomResourceUpdate(field.NewPath("status"), status, old.Object["status"], j.status,
			crvalidation.WithRatcheting(pair.Key("status")))...)
	}
	if len(listtype.ValidateListSetsAndMaps(nil, s.structural, old.Object)) == 0 {
		list = append(list, listtype.ValidateListSetsAndMaps(nil, s.structural, c.Object)...)
	}
	return append(list, v.rules(ctx, j, list, c, old, crcel.WithRatcheting(pair))...)
}

// rules judges by CEL, unless the object is not even of the shape the rules are written for.
func (v *crdVersion) rules(ctx context.Context, j *judges, so field.ErrorList, c, old *kinds.Custom, o ...crcel.Option) field.ErrorList {
	if j.rules == nil {
		return nil
	}
	for _, e := range so {
		switch e.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return field.ErrorList{field.Invalid(nil, nil, "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation")}
		}
	}
	var before any
	if old != nil {
		before = old.Object
	}
	list, _ := j.rules.Validate(ctx, nil, v.schema().structural, c.Object, before, celconfig.RuntimeCELCostBudget, o...)
	return list
}

// scaleFaults judges what the scale subresource reads; spec says whether the part that is not status counts.
func (v *crdVersion) scaleFaults(c *kinds.Custom, spec bool) field.ErrorList {
	if v.spec.Subresources == nil || v.spec.Subresources.Scale == nil {
		return nil
	}
	var list field.ErrorList
	s := v.spec.Subresources.Scale
	if spec {
		list = append(list, replicaFaults(c, s.SpecReplicasPath)...)
	}
	list = append(list, replicaFaults(c, s.StatusReplicasPath)...)
	if s.LabelSelectorPath != nil {
		if _, _, err := unstructured.NestedString(c.Object, split(*s.LabelSelectorPath)...); err != nil {
			list = append(list, field.Invalid(field.NewPath(*s.LabelSelectorPath), "", err.Error()))
		}
	}
	return list
}

func replicaFaults(c *kinds.Custom, path string) field.ErrorList {
	n, _, err := unstructured.NestedInt64(c.Object, split(path)...)
	at := field.NewPath(path)
	switch {
	case err != nil:
		return field.ErrorList{field.Invalid(at, n, err.Error())}
	case n < 0:
		return field.ErrorList{field.Invalid(at, n, "should be a non-negative integer")}
	case n > math.MaxInt32:
		return field.ErrorList{field.Invalid(at, n, "should be less than or equal to 2147483647")}
	}
	return nil
}

// split reads the simple paths of a scale subresource: .spec.replicas
func split(path string) []string { return strings.Split(strings.TrimPrefix(path, "."), ".") }

func scaleOf(sub *apiextensionsv1.CustomResourceSubresources) *kinds.Scale[kinds.Object] {
	if sub == nil || sub.Scale == nil {
		return nil
	}
	s := sub.Scale
	number := func(o *kinds.Object, path string) int32 {
		n, _, _ := unstructured.NestedInt64(custom(*o).Object, split(path)...) // what is no number was refused
		return int32(min(max(n, 0), math.MaxInt32))
	}
	return &kinds.Scale[kinds.Object]{
		Get: func(o *kinds.Object) (spec, status int32, selector string) {
			if s.LabelSelectorPath != nil {
				selector, _, _ = unstructured.NestedString(custom(*o).Object, split(*s.LabelSelectorPath)...)
			}
			return number(o, s.SpecReplicasPath), number(o, s.StatusReplicasPath), selector
		},
		Set: func(o *kinds.Object, n int32) {
			// It fails only where a parent is no object, which validation tells.
			_ = unstructured.SetNestedField(custom(*o).Object, int64(n), split(s.SpecReplicasPath)...)
		},
	}
}
