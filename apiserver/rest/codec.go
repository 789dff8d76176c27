// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"github.com/knarr/knarr/kinds"
)

// Format is how a body is written.
type Format string

// The formats of bodies.
const (
	JSON     Format = "application/json"
	YAML     Format = "application/yaml"
	Protobuf Format = "application/vnd.kubernetes.protobuf"
)

// What to do about unknown and duplicate fields (fieldValidation).
const (
	Strict = "Strict"
	Warn   = "Warn"
	Ignore = "Ignore"
)

// Decode reads a body. Without apiVersion and kind in it, it is of kind gvk. Faults of fields that are unknown or
// duplicate fail with Strict and are told to warn with Warn.
func Decode(data []byte, f Format, gvk schema.GroupVersionKind, validation string, warn func(string)) (runtime.Object, *schema.GroupVersionKind, error) {
	if err := checkQuantities(data, f, gvk); err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	obj, actual, err := serializer(f, validation == Strict || validation == Warn).Decode(data, &gvk, nil)
	if err == nil {
		return obj, actual, nil
	}
	if !runtime.IsStrictDecodingError(err) {
		return nil, actual, apierrors.NewBadRequest(err.Error())
	}
	strict, _ := runtime.AsStrictDecodingError(err)
	if validation == Strict {
		return nil, actual, apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v",
			actual.Kind, actual.GroupVersion().String(), gvk.Kind, strict))
	}
	for _, e := range strict.Errors() {
		warn(e.Error())
	}
	return obj, actual, nil
}

func serializer(f Format, strict bool) runtime.Serializer {
	if f == Protobuf {
		return protobuf.NewSerializer(kinds.Scheme(), kinds.Scheme())
	}
	return jsonserializer.NewSerializerWithOptions(jsonserializer.DefaultMetaFactory, kinds.Scheme(), kinds.Scheme(),
		jsonserializer.SerializerOptions{Yaml: f == YAML, Strict: strict})
}

// DecodeHub reads a body that must be of one version of a kind, and converts it to the hub.
func DecodeHub(data []byte, f Format, v *kinds.Version, validation string, warn func(string)) (kinds.Object, error) {
	if c, ok := v.New().(*kinds.Custom); ok {
		return decodeCustom(data, f, c.Type, validation, warn)
	}
	obj, gvk, err := Decode(data, f, v.GroupVersionKind, validation, warn)
	if err != nil {
		return nil, err
	}
	if gvk.GroupVersion() != v.GroupVersion() {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)",
			gvk.GroupVersion(), v.GroupVersion()))
	}
	versioned, ok := obj.(kinds.Object)
	if !ok || gvk.Kind != v.Kind {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s", gvk.Kind, gvk.GroupVersion().String(), v.Kind))
	}
	hub := v.ToHub(versioned)
	v.Default(hub)
	return hub, nil
}

// ToVersion is a hub object in version v, with apiVersion and kind; it may share memory with o.
func ToVersion(o kinds.Object, v *kinds.Version) kinds.Object {
	out := v.FromHub(o)
	if out.GetObjectKind().GroupVersionKind() != v.GroupVersionKind {
		if out == o {
			out = copyOf(o)
		}
		out.GetObjectKind().SetGroupVersionKind(v.GroupVersionKind)
	}
	return out
}

// versionedJSON is a hub object as JSON of version v: what patches apply to.
func versionedJSON(o kinds.Object, v *kinds.Version) ([]byte, error) {
	return json.Marshal(ToVersion(o, v))
}
