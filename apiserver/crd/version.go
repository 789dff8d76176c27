// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"fmt"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiversion "k8s.io/apimachinery/pkg/version"

	"github.com/knarr/knarr/kinds"
)

// crdVersion is one version of a definition.
type crdVersion struct {
	crd  *apiextensionsv1.CustomResourceDefinition
	spec *apiextensionsv1.CustomResourceDefinitionVersion
	// keepAll: unknown fields are kept everywhere, as definitions older than structural schemas could say.
	keepAll bool
	schema  func() *schemas
	judges  func() *judges
}

// schemas are the definition's schema in the two forms the libraries want.
type schemas struct {
	internal   *apiextensions.JSONSchemaProps // nil: the version has no schema
	structural *structural.Structural         // nil: it has none, or one that is not structural
	defaults   bool                           // some field has a default
}

func newVersion(crd *apiextensionsv1.CustomResourceDefinition, spec *apiextensionsv1.CustomResourceDefinitionVersion) *crdVersion {
	v := &crdVersion{crd: crd, spec: spec, keepAll: crd.Spec.PreserveUnknownFields}
	v.schema = sync.OnceValue(func() *schemas { return schemasOf(spec.Schema) })
	v.judges = sync.OnceValue(v.newJudges)
	return v
}

// schemasOf reads a schema. One that is not structural, as old definitions may have, judges nothing and prunes nothing.
func schemasOf(val *apiextensionsv1.CustomResourceValidation) *schemas {
	s := &schemas{}
	if val == nil || val.OpenAPIV3Schema == nil {
		return s
	}
	internal := &apiextensions.CustomResourceValidation{}
	// The conversion shares memory with what it is given.
	if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(val.DeepCopy(), internal, nil); err != nil {
		return s
	}
	s.internal = internal.OpenAPIV3Schema
	ss, err := structural.NewStructural(s.internal)
	if err != nil || len(structural.ValidateStructural(nil, ss)) > 0 {
		return s
	}
	if err := defaulting.PruneDefaults(ss); err != nil {
		return s
	}
	s.structural = ss
	visitor := structural.Visitor{Structural: func(n *structural.Structural) bool {
		s.defaults = s.defaults || n.Default.Object != nil
		return false
	}}
	visitor.Visit(ss)
	return s
}

// prune drops what the schema does not know, here and in embedded resources.
func (v *crdVersion) prune(c *kinds.Custom) ([]string, error) { return v.coerce(c, true) }

func (v *crdVersion) coerce(c *kinds.Custom, strict bool) ([]string, error) {
	s := v.schema()
	meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(c.Object, objectmeta.ObjectMetaOptions{
		DropMalformedFields: !strict, ReturnUnknownFieldPaths: strict,
	})
	if err != nil {
		return nil, err
	}
	if !v.keepAll && s.structural != nil {
		unknown = append(unknown, pruning.PruneWithOptions(c.Object, s.structural, true, structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: strict})...)
		defaulting.PruneNonNullableNullsWithoutDefaults(c.Object, s.structural)
	}
	fault, paths := objectmeta.CoerceWithOptions(nil, c.Object, s.structural, false, objectmeta.CoerceOptions{
		DropInvalidFields: !strict, ReturnUnknownFieldPaths: strict,
	})
	if fault != nil {
		return nil, fault
	}
	if found {
		if err := objectmeta.SetObjectMeta(c.Object, meta); err != nil {
			return nil, fmt.Errorf("metadata: %w", err)
		}
	}
	return append(unknown, paths...), nil
}

// restore prunes and defaults what the store has, which must not fail: what is no metadata is dropped.
func (v *crdVersion) restore(c *kinds.Custom) {
	if _, err := v.coerce(c, false); err != nil {
		return // it is served as it is; the next write will be judged
	}
	v.fill(c)
}

// fill sets the defaults.
func (v *crdVersion) fill(c *kinds.Custom) {
	if s := v.schema(); s.defaults {
		defaulting.Default(c.Object, s.structural)
	}
}

// newest is the served version that clients prefer.
func newest(crd *apiextensionsv1.CustomResourceDefinition) string {
	best := ""
	for _, v := range crd.Spec.Versions {
		if v.Served && !v.Deprecated && (best == "" || apiversion.CompareKubeAwareVersionStrings(v.Name, best) > 0) {
			best = v.Name
		}
	}
	return best
}

// violations is what keeps a definition's schemas from being structural, as one text; "" when they are.
func violations(crd *apiextensionsv1.CustomResourceDefinition) string {
	var list field.ErrorList
	if crd.Spec.PreserveUnknownFields {
		list = append(list, field.Invalid(field.NewPath("spec", "preserveUnknownFields"), true, "must be false"))
	}
	for i, v := range crd.Spec.Versions {
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			continue
		}
		internal := &apiextensions.CustomResourceValidation{}
		if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(v.Schema.DeepCopy(), internal, nil); err != nil {
			return fmt.Sprintf("read the schema of version %s: %v", v.Name, err)
		}
		s, err := structural.NewStructural(internal.OpenAPIV3Schema)
		if err != nil {
			return fmt.Sprintf("failed to check validation schema for version %s: %v", v.Name, err)
		}
		list = append(list, structural.ValidateStructural(field.NewPath("spec", "versions").Index(i).Child("schema", "openAPIV3Schema"), s)...)
	}
	if len(list) == 0 {
		return ""
	}
	return list.ToAggregate().Error()
}
