// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
)

// protoMagic starts every protobuf value that Kubernetes stores or sends; a runtime.Unknown follows.
var protoMagic = [...]byte{'k', '8', 's', 0}

type protoMarshaler interface {
	Marshal() ([]byte, error)
}

type protoUnmarshaler interface {
	Unmarshal([]byte) error
}

// Encode makes the stored form of an object, as Kubernetes lays it out: protobuf of the hub version in its envelope, or
// JSON for kinds without protobuf; without resourceVersion. It does not write to obj.
func Encode(t *kinds.Type, obj kinds.Object) ([]byte, error) {
	obj = shallow(obj)
	obj.SetResourceVersion("")
	return EncodeProtobuf(t, obj)
}

// EncodeProtobuf is Encode with everything in obj left as it is: what is sent to clients that ask for protobuf.
func EncodeProtobuf(t *kinds.Type, obj kinds.Object) ([]byte, error) {
	m, ok := obj.(protoMarshaler)
	if !ok {
		if t.Custom == nil { // which says itself what it is
			obj = shallow(obj)
			obj.GetObjectKind().SetGroupVersionKind(t.GroupVersionKind)
		}
		b, err := json.Marshal(obj)
		if err != nil {
			return nil, fmt.Errorf("encode %s %s: %w", t.Kind, obj.GetName(), err)
		}
		return b, nil
	}
	raw, err := m.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", t.Kind, obj.GetName(), err)
	}
	return Envelope(t.GroupVersion().String(), t.Kind, raw)
}

// Envelope puts protobuf bytes of an object into the form that is stored and sent.
func Envelope(apiVersion, kind string, raw []byte) ([]byte, error) {
	u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: apiVersion, Kind: kind}, Raw: raw}
	b := make([]byte, len(protoMagic)+u.Size())
	copy(b, protoMagic[:])
	if _, err := u.MarshalTo(b[len(protoMagic):]); err != nil {
		return nil, fmt.Errorf("encode the envelope of a %s: %w", kind, err)
	}
	return b, nil
}

// OpenEnvelope undoes Envelope: u gets the kind, raw is the object's protobuf. proto is false, and
// nothing else done, when value does not start as an envelope does.
func OpenEnvelope(value []byte, u *runtime.Unknown) (raw []byte, proto bool, err error) {
	if !bytes.HasPrefix(value, protoMagic[:]) {
		return nil, false, nil
	}
	if err := u.Unmarshal(value[len(protoMagic):]); err != nil {
		return nil, true, fmt.Errorf("envelope: %w", err)
	}
	return u.Raw, true, nil
}

// Decode reads what Encode made: an object of the hub version. A value of another served version, as an older program may
// have stored it, is converted.
func Decode(t *kinds.Type, value []byte) (kinds.Object, error) {
	obj, err := decode(t, value)
	if err != nil {
		return nil, errs.New(errs.Invalid, "decode a stored %s: %w", t.Kind, err)
	}
	if t.Custom == nil {
		obj.GetObjectKind().SetGroupVersionKind(t.GroupVersionKind)
		t.Restore(obj)
	}
	return obj, nil
}

// decodeCustom reads an object of a kind defined at runtime, in the version in which it was written.
func decodeCustom(t *kinds.Type, m runtime.TypeMeta, value []byte) (kinds.Object, error) {
	of := t.Custom.Version(m.APIVersion)
	if of == nil {
		return nil, fmt.Errorf("it is a %s %s, which is no version of its definition", m.APIVersion, m.Kind)
	}
	c := kinds.NewCustom(of)
	if err := json.Unmarshal(value, c); err != nil {
		return nil, err
	}
	of.Restore(c)
	return c, nil
}

func decode(t *kinds.Type, value []byte) (kinds.Object, error) {
	var u runtime.Unknown
	raw, proto, err := OpenEnvelope(value, &u)
	if err == nil && !proto {
		err = json.Unmarshal(value, &u.TypeMeta)
	}
	if err != nil {
		return nil, err
	}
	if t.Custom != nil {
		return decodeCustom(t, u.TypeMeta, value)
	}
	v := version(t, u.TypeMeta)
	if v == nil {
		return nil, fmt.Errorf("it is a %s %s", u.APIVersion, u.Kind)
	}
	obj := v.New()
	if !proto {
		if err := json.Unmarshal(value, obj); err != nil {
			return nil, err
		}
		return written(v, obj), nil
	}
	m, ok := obj.(protoUnmarshaler)
	if !ok {
		return nil, fmt.Errorf("%s has no protobuf form", t.Kind)
	}
	if err := m.Unmarshal(raw); err != nil {
		return nil, err
	}
	return written(v, obj), nil
}

// written is the hub object of one that was stored in version v, with what that version made of fields left out.
func written(v *kinds.Version, obj kinds.Object) kinds.Object {
	hub := v.ToHub(obj)
	v.Default(hub)
	return hub
}

// version is the served version that a value says it is of.
func version(t *kinds.Type, m runtime.TypeMeta) *kinds.Version {
	for i := range t.Served {
		v := &t.Served[i]
		if v.Kind == m.Kind && v.GroupVersion().String() == m.APIVersion {
			return v
		}
	}
	return nil
}
