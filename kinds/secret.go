// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Secret is core/v1 Secret. What was written to stringData is merged into data and never read back.
var Secret = Kind[corev1.Secret]{
	Version: "v1", Name: "Secret", Plural: "secrets",
	NoGeneration:   true,
	Default:        func(s *corev1.Secret) { or(&s.Type, corev1.SecretTypeOpaque) },
	Validate:       validateSecret,
	ValidateUpdate: validateSecretUpdate,
	BeforeCreate:   mergeStringData,
	BeforeUpdate: func(new, old *corev1.Secret) {
		mergeStringData(new)
	},
	Fields: func(s *corev1.Secret) fields.Set { return fields.Set{"type": string(s.Type)} },
	Columns: []Column[corev1.Secret]{
		nameColumn[corev1.Secret](),
		text("Type", "What its keys mean.", 0, func(s *corev1.Secret) string { return string(s.Type) }),
		number("Data", "How many keys it has.", func(s *corev1.Secret) int64 { return int64(len(s.Data)) }),
		ageColumn[corev1.Secret](),
	},
}

func mergeStringData(s *corev1.Secret) {
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = map[string][]byte{}
	}
	for k, v := range s.StringData {
		s.Data[k] = []byte(v)
	}
	s.StringData = nil
}

// secretKeys are the keys each type must have.
func secretKeys(t corev1.SecretType) []string {
	switch t {
	case corev1.SecretTypeDockercfg:
		return []string{corev1.DockerConfigKey}
	case corev1.SecretTypeDockerConfigJson:
		return []string{corev1.DockerConfigJsonKey}
	case corev1.SecretTypeSSHAuth:
		return []string{corev1.SSHAuthPrivateKey}
	case corev1.SecretTypeTLS:
		return []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey}
	}
	return nil
}

func validateSecret(s *corev1.Secret) field.ErrorList {
	f := &faults{}
	data := field.NewPath("data")
	size := 0
	for k, v := range s.Data {
		f.each(data.Key(k), k, validation.IsConfigMapKey(k))
		size += len(v)
	}
	if size > corev1.MaxSecretSize {
		f.add(field.TooLong(data, "", corev1.MaxSecretSize))
	}
	for _, k := range secretKeys(s.Type) {
		if _, ok := s.Data[k]; !ok {
			f.required(data.Key(k), "")
		}
	}
	switch s.Type {
	case corev1.SecretTypeServiceAccountToken:
		if s.Annotations[corev1.ServiceAccountNameKey] == "" {
			f.required(field.NewPath("metadata", "annotations").Key(corev1.ServiceAccountNameKey), "")
		}
	case corev1.SecretTypeBasicAuth:
		_, user := s.Data[corev1.BasicAuthUsernameKey]
		_, password := s.Data[corev1.BasicAuthPasswordKey]
		if !user && !password {
			f.required(data.Key(corev1.BasicAuthUsernameKey), "")
			f.required(data.Key(corev1.BasicAuthPasswordKey), "")
		}
	case corev1.SecretTypeDockercfg, corev1.SecretTypeDockerConfigJson:
		key := secretKeys(s.Type)[0]
		raw, ok := s.Data[key]
		if err := json.Unmarshal(raw, &map[string]any{}); ok && err != nil {
			f.invalid(data.Key(key), "<secret contents redacted>", err.Error())
		}
	}
	return f.list
}

func validateSecretUpdate(new, old *corev1.Secret) field.ErrorList {
	f := &faults{}
	f.immutable(field.NewPath("type"), new.Type, old.Type)
	if !isTrue(old.Immutable) {
		return f.list
	}
	if !isTrue(new.Immutable) {
		f.forbidden(field.NewPath("immutable"), frozen)
	}
	if !equality.Semantic.DeepEqual(new.Data, old.Data) {
		f.forbidden(field.NewPath("data"), frozen)
	}
	return f.list
}
