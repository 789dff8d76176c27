// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/knarr/knarr/apiserver/rest"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

type protoMarshaler interface{ Marshal() ([]byte, error) }

// encoder makes the bytes of one kind's objects in one version and form; what can be shared is kept with the entry.
type encoder struct {
	t *kinds.Type
	v *kinds.Version
	m media
}

// partial reports whether only metadata is wanted.
func (c encoder) partial() bool {
	return c.m.as == "PartialObjectMetadata" || c.m.as == "PartialObjectMetadataList"
}

var partialKind = metav1.SchemeGroupVersion.WithKind("PartialObjectMetadata")

// raw is an object's own bytes: JSON with apiVersion and kind, or the protobuf message without its envelope.
func (c encoder) raw(e *cache.Entry) ([]byte, error) {
	asProto := c.m.format == rest.Protobuf
	switch {
	case c.partial() && asProto:
		return e.Encoded("meta;proto", func() ([]byte, error) { return partialOf(e.Object).Marshal() })
	case c.partial():
		return e.Encoded("meta;json", func() ([]byte, error) { return json.Marshal(partialOf(e.Object)) })
	case asProto:
		return e.Encoded(cache.Encoding("raw;"+c.v.GroupVersion().String()), func() ([]byte, error) {
			m, ok := any(rest.ToVersion(e.Object, c.v)).(protoMarshaler)
			if !ok {
				return nil, errs.New(errs.Unsupported, "%s has no protobuf form", c.v.Kind)
			}
			return m.Marshal()
		})
	case c.v.Hub:
		return e.Encoded(cache.JSON, func() ([]byte, error) { return json.Marshal(rest.ToVersion(e.Object, c.v)) })
	}
	return e.Encoded(cache.Encoding("json;"+c.v.GroupVersion().String()), func() ([]byte, error) {
		return json.Marshal(rest.ToVersion(e.Object, c.v))
	})
}

// whole is an object as it stands alone, or in a watch event: with the envelope, if the form has one.
func (c encoder) whole(e *cache.Entry) ([]byte, error) {
	b, err := c.raw(e)
	if err != nil || c.m.format != rest.Protobuf {
		return b, err
	}
	return cache.Envelope(c.kind().GroupVersion().String(), c.kind().Kind, b)
}

func (c encoder) listKind() string {
	if c.t.Custom != nil && !c.partial() {
		return c.t.Custom.ListKind
	}
	return c.kind().Kind + "List"
}

// kind is what each object says it is.
func (c encoder) kind() schema.GroupVersionKind {
	if c.partial() {
		return partialKind
	}
	return c.v.GroupVersionKind
}

func partialOf(o kinds.Object) *metav1.PartialObjectMetadata {
	p := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: partialKind.GroupVersion().String(), Kind: partialKind.Kind}}
	if has, ok := o.(metav1.ObjectMetaAccessor); ok {
		if m, ok := has.GetObjectMeta().(*metav1.ObjectMeta); ok {
			p.ObjectMeta = *m
		}
	}
	if c, ok := o.(*kinds.Custom); ok {
		// What is no metadata was refused, or dropped when it was read.
		if m, _, err := objectmeta.GetObjectMeta(c.Object, true); err == nil && m != nil {
			p.ObjectMeta = *m
		}
	}
	return p
}

// list is the pieces of a list's bytes: a head, the items' shared bytes with what joins them, a tail. In lists items do
// not repeat apiVersion and kind, but for partial metadata.
func (c encoder) list(l *rest.List) ([][]byte, error) {
	if c.m.format == rest.Protobuf {
		return c.protoList(l)
	}
	kind := c.kind()
	meta, err := json.Marshal(listMeta(l))
	if err != nil {
		return nil, err
	}
	head := fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q,"metadata":%s,"items":[`, c.listKind(), kind.GroupVersion().String(), meta)
	prefix := fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q,`, kind.Kind, kind.GroupVersion().String())
	parts := make([][]byte, 0, 2*len(l.Entries)+2)
	parts = append(parts, head)
	for i, e := range l.Entries {
		b, err := c.raw(e)
		if err != nil {
			return nil, err
		}
		open := "{"
		rest, cut := bytes.CutPrefix(b, prefix)
		if !cut || c.partial() {
			open, rest = "", b
		}
		if i > 0 {
			open = "," + open
		}
		parts = append(parts, []byte(open), rest)
	}
	parts = append(parts, []byte("]}\n"))
	if c.m.format == rest.YAML {
		return asYAML(bytes.Join(parts, nil))
	}
	return parts, nil
}

func listMeta(l *rest.List) metav1.ListMeta {
	return metav1.ListMeta{ResourceVersion: strconv.FormatInt(l.Revision, 10), Continue: l.Continue, RemainingItemCount: l.Remaining}
}

// protoList writes what every XxxList message is: field 1 the metadata, field 2 repeated the items.
func (c encoder) protoList(l *rest.List) ([][]byte, error) {
	m := listMeta(l)
	meta, err := m.Marshal()
	if err != nil {
		return nil, err
	}
	body := field(nil, 1, meta)
	for _, e := range l.Entries {
		b, err := c.raw(e)
		if err != nil {
			return nil, err
		}
		body = field(body, 2, b)
	}
	kind := c.kind()
	b, err := cache.Envelope(kind.GroupVersion().String(), kind.Kind+"List", body)
	return [][]byte{b}, err
}

// field appends a length-delimited protobuf field.
func field(to []byte, number byte, value []byte) []byte {
	to = append(to, number<<3|2)
	n := uint64(len(value))
	for n >= 0x80 {
		to = append(to, byte(n)|0x80)
		n >>= 7
	}
	return append(append(to, byte(n)), value...)
}

// encodeAny makes the bytes of an object that is no cached kind: Status, Scale, Table, reviews.
func encodeAny(obj runtime.Object, m media) ([]byte, error) {
	gvk := obj.GetObjectKind().GroupVersionKind()
	if gvk.Empty() {
		known, _, err := kinds.Scheme().ObjectKinds(obj)
		if err != nil {
			return nil, err
		}
		gvk = known[0]
		obj = obj.DeepCopyObject()
		obj.GetObjectKind().SetGroupVersionKind(gvk)
	}
	if m.format == rest.Protobuf {
		if p, ok := obj.(protoMarshaler); ok {
			b, err := p.Marshal()
			if err != nil {
				return nil, err
			}
			return cache.Envelope(gvk.GroupVersion().String(), gvk.Kind, b)
		}
	}
	b, err := json.Marshal(obj)
	if err != nil || m.format != rest.YAML {
		return append(b, '\n'), err
	}
	return yaml.JSONToYAML(b)
}

func asYAML(b []byte) ([][]byte, error) {
	y, err := yaml.JSONToYAML(b)
	return [][]byte{y}, err
}
