// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"reflect"
)

// Alike describes a served version whose fields are the hub's, under the same Go names and of the same shapes: most
// versions were promoted as they were. What else differs is in to and from, which run after the common fields have been
// copied; nil does nothing more. A test compares the fields of every pair.
func Alike[T, V any](group, version string, to func(*V, *T), from func(*T, *V)) Served[T] {
	s := Via(group, version,
		func(in *V, out *T) {
			copyAlike(reflect.ValueOf(out).Elem(), reflect.ValueOf(in).Elem())
			if to != nil {
				to(in, out)
			}
		},
		func(in *T, out *V) {
			copyAlike(reflect.ValueOf(out).Elem(), reflect.ValueOf(in).Elem())
			if from != nil {
				from(in, out)
			}
		})
	s.alike = [2]reflect.Type{reflect.TypeFor[T](), reflect.TypeFor[V]()}
	return s
}

// copyAlike copies what two values have in common: fields by name, elements one by one. What has the same type is shared.
func copyAlike(dst, src reflect.Value) {
	if src.Type() == dst.Type() {
		dst.Set(src)
		return
	}
	if src.Kind() != dst.Kind() {
		copyIndirect(dst, src)
		return
	}
	switch src.Kind() {
	case reflect.Struct:
		for i := range dst.NumField() {
			if f := src.FieldByName(dst.Type().Field(i).Name); f.IsValid() {
				copyAlike(dst.Field(i), f)
			}
		}
	case reflect.Pointer:
		if !src.IsNil() {
			dst.Set(reflect.New(dst.Type().Elem()))
			copyAlike(dst.Elem(), src.Elem())
		}
	case reflect.Slice:
		if !src.IsNil() {
			dst.Set(reflect.MakeSlice(dst.Type(), src.Len(), src.Len()))
			for i := range src.Len() {
				copyAlike(dst.Index(i), src.Index(i))
			}
		}
	case reflect.Map:
		if !src.IsNil() {
			dst.Set(reflect.MakeMapWithSize(dst.Type(), src.Len()))
			for it := src.MapRange(); it.Next(); {
				v := reflect.New(dst.Type().Elem()).Elem()
				copyAlike(v, it.Value())
				dst.SetMapIndex(it.Key().Convert(dst.Type().Key()), v)
			}
		}
	default:
		dst.Set(src.Convert(dst.Type()))
	}
}

// copyIndirect is between a value and a pointer to one: a field that became optional, or stopped to be.
func copyIndirect(dst, src reflect.Value) {
	switch {
	case src.Kind() == reflect.Pointer && src.Type().Elem().Kind() == dst.Kind():
		if !src.IsNil() {
			copyAlike(dst, src.Elem())
		}
	case dst.Kind() == reflect.Pointer && dst.Type().Elem().Kind() == src.Kind():
		if !src.IsZero() {
			dst.Set(reflect.New(dst.Type().Elem()))
			copyAlike(dst.Elem(), src)
		}
	}
}

// unlike lists the paths at which two types differ: fields that one has and the other has not, and other kinds of value.
func unlike(path string, a, b reflect.Type, seen map[[2]reflect.Type]bool) []string {
	if a == b || seen[[2]reflect.Type{a, b}] {
		return nil
	}
	if a.Kind() != b.Kind() {
		return []string{fmt.Sprintf("%s: %s, %s", path, a, b)}
	}
	seen[[2]reflect.Type{a, b}] = true
	switch a.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return unlike(path, a.Elem(), b.Elem(), seen)
	case reflect.Struct:
	default:
		return nil
	}
	var out []string
	for i := range a.NumField() {
		f := a.Field(i)
		if g, ok := b.FieldByName(f.Name); ok {
			out = append(out, unlike(path+"."+f.Name, f.Type, g.Type, seen)...)
		} else {
			out = append(out, fmt.Sprintf("%s.%s: hub only", path, f.Name))
		}
	}
	for i := range b.NumField() {
		if f := b.Field(i); f.Name != "" {
			if _, ok := a.FieldByName(f.Name); !ok {
				out = append(out, fmt.Sprintf("%s.%s: old only", path, f.Name))
			}
		}
	}
	return out
}
