// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/knarr/knarr/internal/errs"
)

// A quantity is a number in text, and reading it costs as much as its exponent says: 1e-99999999 is ten bytes and takes
// minutes. So bodies are looked through for such numbers before they are decoded. Only in fields that are quantities: a
// label may well say 12e45678.

// Bounds of a quantity, far outside of what can be meant.
const (
	maxQuantity = 256 // characters
	maxExponent = 99  // of ten, either way
	maxNesting  = 512 // of messages
)

// vast finds what might be a number with a large exponent, or one that is very long.
var vast = regexp.MustCompile(`[0-9.][eE][+-]?[0-9]{3,}|[0-9.]{256,}`)

// exponential takes a number with an exponent apart.
var exponential = regexp.MustCompile(`^[+-]?[0-9.]*[eE]([+-]?[0-9]+)$`)

var (
	quantityType  = reflect.TypeFor[resource.Quantity]()
	unmarshalJSON = reflect.TypeFor[json.Unmarshaler]()
)

// CheckQuantity refuses a quantity that would cost too much to read. Whether it is one at all is not its question.
func CheckQuantity(text string) error {
	if len(text) > maxQuantity {
		return errs.New(errs.Invalid, "a quantity has more than %d characters", maxQuantity)
	}
	m := exponential.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return nil
	}
	if n, err := strconv.Atoi(m[1]); err != nil || n > maxExponent || n < -maxExponent {
		return errs.New(errs.Invalid, "the exponent of the quantity %s is out of bounds: -%d to %d", text, maxExponent, maxExponent)
	}
	return nil
}

// Vast reports whether data may hold a number that is worth a look.
func Vast(data []byte) bool { return vast.Match(data) }

// CheckJSON refuses data, which is to become a value like o, if one of its quantities would cost too much to read.
func CheckJSON(data []byte, o any) error {
	if !Vast(data) {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil // the decoder will say why
	}
	return checkJSON(reflect.TypeOf(o), v)
}

func checkJSON(t reflect.Type, v any) error {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || v == nil {
		return nil
	}
	if t == quantityType {
		return CheckQuantity(fmt.Sprint(v))
	}
	switch v := v.(type) {
	case []any:
		if t.Kind() != reflect.Slice && t.Kind() != reflect.Array {
			return nil
		}
		for _, x := range v {
			if err := checkJSON(t.Elem(), x); err != nil {
				return err
			}
		}
	case map[string]any:
		if t.Kind() == reflect.Map {
			for _, x := range v {
				if err := checkJSON(t.Elem(), x); err != nil {
					return err
				}
			}
		}
		if t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(unmarshalJSON) {
			return checkFields(t, v)
		}
	}
	return nil
}

func checkFields(t reflect.Type, v map[string]any) error {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		var err error
		switch {
		case name == "" && f.Anonymous:
			err = checkJSON(f.Type, v)
		case v[name] != nil:
			err = checkJSON(f.Type, v[name])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckProto is CheckJSON for a protobuf message, without its envelope. It also refuses messages that are nested too deep:
// their decoder calls itself.
func CheckProto(data []byte, o any) error {
	return checkProto(reflect.TypeOf(o), data, 0)
}

func checkProto(t reflect.Type, data []byte, depth int) error {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8 {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	if depth > maxNesting {
		return errs.New(errs.Invalid, "the body is nested more than %d levels deep", maxNesting)
	}
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil // the decoder will say why
		}
		data = data[n:]
		if n = protowire.ConsumeFieldValue(number, kind, data); n < 0 {
			return nil
		}
		value := data[:n]
		data = data[n:]
		if kind != protowire.BytesType {
			continue
		}
		value, _ = protowire.ConsumeBytes(value)
		if t == quantityType {
			if err := CheckQuantity(string(value)); err != nil {
				return err
			}
			continue
		}
		if err := checkMember(t, number, value, depth); err != nil {
			return err
		}
	}
	return nil
}

// checkMember looks into one field of a message.
func checkMember(t reflect.Type, number protowire.Number, value []byte, depth int) error {
	f, ok := member(t, number)
	if !ok {
		return nil
	}
	if f.Kind() == reflect.Map {
		// An entry is a message of the key and the value.
		for len(value) > 0 {
			number, kind, n := protowire.ConsumeTag(value)
			if n < 0 {
				return nil
			}
			m := protowire.ConsumeFieldValue(number, kind, value[n:])
			if m < 0 {
				return nil
			}
			if number == 2 && kind == protowire.BytesType {
				x, _ := protowire.ConsumeBytes(value[n:])
				if err := checkProto(f.Elem(), x, depth+1); err != nil {
					return err
				}
			}
			value = value[n+m:]
		}
		return nil
	}
	return checkProto(f, value, depth+1)
}

// member is the type of a message's field with a number.
func member(t reflect.Type, number protowire.Number) (reflect.Type, bool) {
	want := strconv.Itoa(int(number))
	for i := range t.NumField() {
		f := t.Field(i)
		parts := strings.SplitN(f.Tag.Get("protobuf"), ",", 3)
		if len(parts) > 1 && parts[1] == want {
			return f.Type, true
		}
	}
	return nil, false
}
