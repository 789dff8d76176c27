// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"context"
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
)

// converter makes objects of one version of those of others.
type converter struct {
	crd  *apiextensionsv1.CustomResourceDefinition
	hook Webhook
}

// convert is kinds.Definition.Convert. What comes out is pruned and defaulted by the schema it is now of.
func (c *converter) convert(ctx context.Context, objs []*kinds.Custom, to *kinds.Type) ([]*kinds.Custom, error) {
	want := to.GroupVersion().String()
	out := make([]*kinds.Custom, len(objs))
	var ask []int
	for i, o := range objs {
		if o.GetAPIVersion() == want {
			out[i] = o
			continue
		}
		if s := c.crd.Spec.Conversion; s != nil && s.Strategy == apiextensionsv1.WebhookConverter {
			ask = append(ask, i)
			continue
		}
		out[i] = &kinds.Custom{Unstructured: *o.Unstructured.DeepCopy(), Type: to}
		out[i].SetAPIVersion(want)
		to.Restore(out[i])
	}
	if len(ask) == 0 {
		return out, nil
	}
	if c.hook == nil {
		return nil, errs.New(errs.Unsupported, "conversion by webhook is not done here; ask the API server")
	}
	in := make([]map[string]any, len(ask))
	for n, i := range ask {
		in[n] = objs[i].Object
	}
	answer, err := c.hook(ctx, c.crd, in, want)
	if err != nil {
		return nil, fmt.Errorf("conversion webhook for %s failed: %w", objs[ask[0]].GroupVersionKind(), err)
	}
	for n, i := range ask {
		got := &kinds.Custom{Unstructured: unstructured.Unstructured{Object: answer[n]}, Type: to}
		if err := honest(objs[i], got, want); err != nil {
			return nil, fmt.Errorf("conversion webhook for %s failed: %w", objs[i].GroupVersionKind(), err)
		}
		out[i] = got
		to.Restore(got)
	}
	return out, nil
}

// honest checks that a webhook changed only what a conversion may, and puts back the metadata that is not its to change.
func honest(was, is *kinds.Custom, want string) error {
	switch {
	case is.GetAPIVersion() != want:
		return fmt.Errorf("returned unexpected apiVersion: expected %q, got %q", want, is.GetAPIVersion())
	case is.GetKind() != was.GetKind():
		return fmt.Errorf("returned unexpected kind: expected %q, got %q", was.GetKind(), is.GetKind())
	}
	for _, f := range []struct{ name, was, is string }{
		{"name", was.GetName(), is.GetName()}, {"namespace", was.GetNamespace(), is.GetNamespace()}, {"uid", string(was.GetUID()), string(is.GetUID())},
	} {
		if f.was != f.is {
			return fmt.Errorf("must have the same %s: %v != %v", f.name, f.is, f.was)
		}
	}
	before, _, err := unstructured.NestedMap(was.Object, "metadata")
	if err != nil {
		return err
	}
	after, _, err := unstructured.NestedMap(is.Object, "metadata")
	if err != nil {
		return fmt.Errorf("invalid metadata: %w", err)
	}
	for _, key := range []string{"labels", "annotations"} {
		delete(before, key)
		v, ok := after[key]
		if !ok {
			continue
		}
		m, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("metadata.%s is no map", key)
		}
		for k, x := range m {
			if _, ok := x.(string); !ok {
				return fmt.Errorf("metadata.%s[%s] is no string", key, k)
			}
		}
		before[key] = v
	}
	if !equality.Semantic.DeepEqual(after, before) {
		is.Object["metadata"] = before
	}
	return nil
}
