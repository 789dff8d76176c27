// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// RootCA is the ConfigMap, in each namespace, with the certificate that pods check the API server's with (ca.crt).
const RootCA = "kube-root-ca.crt"

// ConfigMap is core/v1 ConfigMap.
var ConfigMap = Kind[corev1.ConfigMap]{
	Version: "v1", Name: "ConfigMap", Plural: "configmaps", Short: []string{"cm"},
	NoGeneration:   true,
	Validate:       validateConfigMap,
	ValidateUpdate: validateConfigMapUpdate,
	Columns: []Column[corev1.ConfigMap]{
		nameColumn[corev1.ConfigMap](),
		number("Data", "How many keys it has.", func(c *corev1.ConfigMap) int64 { return int64(len(c.Data) + len(c.BinaryData)) }),
		ageColumn[corev1.ConfigMap](),
	},
}

func validateConfigMap(c *corev1.ConfigMap) field.ErrorList {
	f := &faults{}
	size := 0
	for k, v := range c.Data {
		at := field.NewPath("data").Key(k)
		f.each(at, k, validation.IsConfigMapKey(k))
		if _, both := c.BinaryData[k]; both {
			f.invalid(at, k, "duplicate of key present in binaryData")
		}
		size += len(v)
	}
	for k, v := range c.BinaryData {
		f.each(field.NewPath("binaryData").Key(k), k, validation.IsConfigMapKey(k))
		size += len(v)
	}
	if size > corev1.MaxSecretSize {
		f.add(field.TooLong(field.NewPath(""), "", corev1.MaxSecretSize))
	}
	return f.list
}

const frozen = "field is immutable when `immutable` is set"

func validateConfigMapUpdate(new, old *corev1.ConfigMap) field.ErrorList {
	f := &faults{}
	if !isTrue(old.Immutable) {
		return nil
	}
	if !isTrue(new.Immutable) {
		f.forbidden(field.NewPath("immutable"), frozen)
	}
	if !equality.Semantic.DeepEqual(new.Data, old.Data) {
		f.forbidden(field.NewPath("data"), frozen)
	}
	if !equality.Semantic.DeepEqual(new.BinaryData, old.BinaryData) {
		f.forbidden(field.NewPath("binaryData"), frozen)
	}
	return f.list
}
