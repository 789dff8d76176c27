// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// CustomResourceCleanup is the finalizer by which a definition waits for its objects to be gone.
const CustomResourceCleanup = apiextensionsv1.CustomResourceCleanupFinalizer

// CustomResourceDefinition is apiextensions.k8s.io/v1 CustomResourceDefinition. What it defines is made in apiserver/crd.
var CustomResourceDefinition = Kind[apiextensionsv1.CustomResourceDefinition]{
	Group: "apiextensions.k8s.io", Version: "v1", Name: "CustomResourceDefinition", Plural: "customresourcedefinitions",
	Short: []string{"crd", "crds"}, Categories: []string{"api-extensions"}, Cluster: true, HasStatus: true,
	Storage: "apiextensions.k8s.io/customresourcedefinitions",
	Default: apiextensionsv1.SetObjectDefaults_CustomResourceDefinition,
	Validate: func(c *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
		return withInternal(c, nil, func(c, _ *apiextensions.CustomResourceDefinition) field.ErrorList {
			return crdvalidation.ValidateCustomResourceDefinition(Pure{}, c)
		})
	},
	WholeUpdate: true,
	ValidateUpdate: func(new, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
		return withInternal(new, old, func(new, old *apiextensions.CustomResourceDefinition) field.ErrorList {
			return crdvalidation.ValidateCustomResourceDefinitionUpdate(Pure{}, new, old)
		})
	},
	ValidateStatus: func(new, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
		return withInternal(new, old, func(new, old *apiextensions.CustomResourceDefinition) field.ErrorList {
			return crdvalidation.ValidateUpdateCustomResourceDefinitionStatus(Pure{}, new, old)
		})
	},
	BeforeCreate: storeVersion,
	BeforeUpdate: func(new, _ *apiextensionsv1.CustomResourceDefinition) { storeVersion(new) },
	BeforeDelete: func(c *apiextensionsv1.CustomResourceDefinition) {
		if Established(c) && !slices.Contains(c.Finalizers, CustomResourceCleanup) {
			c.Finalizers = append(c.Finalizers, CustomResourceCleanup)
		}
	},
	Columns: []Column[apiextensionsv1.CustomResourceDefinition]{
		nameColumn[apiextensionsv1.CustomResourceDefinition](),
		text("Created At", "When the definition was made.", 0, func(c *apiextensionsv1.CustomResourceDefinition) string {
			return c.CreationTimestamp.UTC().Format("2006-01-02T15:04:05Z")
		}),
	},
}

// storeVersion notes that objects will be written in the storage version from now on.
func storeVersion(c *apiextensionsv1.CustomResourceDefinition) {
	for _, v := range c.Spec.Versions {
		if v.Storage && !slices.Contains(c.Status.StoredVersions, v.Name) {
			c.Status.StoredVersions = append(c.Status.StoredVersions, v.Name)
		}
	}
}

// Established reports whether a definition's kind is served; once it is, it stays so.
func Established(c *apiextensionsv1.CustomResourceDefinition) bool {
	for _, cond := range c.Status.Conditions {
		if cond.Type == apiextensionsv1.Established {
			return cond.Status == apiextensionsv1.ConditionTrue
		}
	}
	return false
}

// withInternal judges by the validation library, which works on its own version of the type. The metadata is left to the
// caller's own check, but for the name.
func withInternal(new, old *apiextensionsv1.CustomResourceDefinition, judge func(new, old *apiextensions.CustomResourceDefinition) field.ErrorList) field.ErrorList {
	var in [2]apiextensions.CustomResourceDefinition
	for i, c := range []*apiextensionsv1.CustomResourceDefinition{new, old} {
		if c == nil {
			continue
		}
		// The conversion shares memory with what it is given, and defaulting inside of it writes.
		if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(c.DeepCopy(), &in[i], nil); err != nil {
			return field.ErrorList{field.InternalError(nil, fmt.Errorf("convert the definition: %w", err))}
		}
	}
	list := judge(&in[0], &in[1])
	return slices.DeleteFunc(list, func(e *field.Error) bool {
		return len(e.Field) > 9 && e.Field[:9] == "metadata." && e.Field != "metadata.name" && e.Field[9:] != "annotations[api-approved.kubernetes.io]"
	})
}
