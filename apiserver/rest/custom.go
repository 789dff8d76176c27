// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// Kinds that were defined at runtime have no hub: the cache has each object in the version it was last written in. So
// what a request reads is first brought into the request's version (InVersion), all is decided in that version, and what is
// written is brought into the version that is stored.

// InVersion is entries as version t of their kind shows them. For the kinds of the program that is what they are; others are
// converted, at most once for an entry and version.
func (c *Core) InVersion(ctx context.Context, t *kinds.Type, entries ...*cache.Entry) ([]*cache.Entry, error) {
	if t.Custom == nil {
		return entries, nil
	}
	var (
		out  []*cache.Entry
		objs []*kinds.Custom
		at   []int
	)
	for i, e := range entries {
		o, ok := e.Object.(*kinds.Custom)
		if !ok || o.GetAPIVersion() == t.GroupVersion().String() {
			continue
		}
		if out == nil {
			out = slices.Clone(entries)
		}
		if done := e.Converted(t); done != nil {
			out[i] = done
			continue
		}
		objs, at = append(objs, o), append(at, i)
	}
	if out == nil {
		return entries, nil
	}
	converted, err := t.Custom.Convert(ctx, objs, t)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	for n, i := range at {
		out[i] = entries[i].Convert(t, converted[n])
	}
	return out, nil
}

// inVersion is InVersion for one.
func (c *Core) inVersion(ctx context.Context, t *kinds.Type, e *cache.Entry) (*cache.Entry, error) {
	list, err := c.InVersion(ctx, t, e)
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// toStore is an object in the version in which its kind is stored.
func toStore(ctx context.Context, o kinds.Object) (kinds.Object, error) {
	custom, ok := o.(*kinds.Custom)
	if !ok {
		return o, nil
	}
	t := custom.Type.Custom.Versions[0]
	list, err := t.Custom.Convert(ctx, []*kinds.Custom{custom}, t)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return list[0], nil
}

// definedStill demands that the definition of a new object's kind is there and not ending when the object is written: the
// deletion of a definition deletes what it finds, and nothing may come after.
func (c *Core) definedStill(ctx context.Context, r *Request) ([]*cache.Entry, error) {
	if r.Type.Custom == nil {
		return nil, nil
	}
	e, ok, err := (lookup{c}).Find(ctx, kinds.For[apiextensionsv1.CustomResourceDefinition](), "", r.Type.Plural+"."+r.Type.Group)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, notFound(r)
	case e.Object.GetDeletionTimestamp() != nil:
		err := apierrors.NewMethodNotSupported(r.Type.Resource().GroupResource(), "create")
		err.ErrStatus.Message = "create not allowed while custom resource definition is terminating"
		return nil, err
	}
	return []*cache.Entry{e}, nil
}

// decodeCustom is DecodeHub for a kind defined at runtime: what its schema does not know is dropped, and said.
func decodeCustom(data []byte, f Format, t *kinds.Type, validation string, warn func(string)) (kinds.Object, error) {
	if f == Protobuf {
		return nil, apierrors.NewGenericServerResponse(415, "", noResource, "",
			"the body of the request was in an unknown format - accepted media types include: application/json, application/yaml", 0, true)
	}
	tell := validation == Strict || validation == Warn
	s := jsonserializer.NewSerializerWithOptions(jsonserializer.DefaultMetaFactory, anyKind{}, anyKind{},
		jsonserializer.SerializerOptions{Yaml: f == YAML, Strict: tell})
	u := &unstructured.Unstructured{}
	_, gvk, err := s.Decode(data, &t.GroupVersionKind, u)
	var strict []error
	if runtime.IsStrictDecodingError(err) {
		found, _ := runtime.AsStrictDecodingError(err)
		strict, err = found.Errors(), nil
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if gvk.GroupVersion() != t.GroupVersion() {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)",
			gvk.GroupVersion(), t.GroupVersion()))
	}
	if gvk.Kind != t.Kind {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s", gvk.Kind, gvk.GroupVersion().String(), t.Kind))
	}
	c := &kinds.Custom{Unstructured: *u, Type: t}
	c.SetGroupVersionKind(t.GroupVersionKind)
	unknown, err := t.Custom.Prune(c)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", gvk.Kind, gvk.GroupVersion().String(), t.Kind, err))
	}
	for _, path := range unknown {
		strict = append(strict, fmt.Errorf("unknown field %q", path))
	}
	if len(strict) == 0 || !tell {
		return c, nil
	}
	if validation == Strict {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v",
			gvk.Kind, gvk.GroupVersion().String(), t.Kind, runtime.NewStrictDecodingError(strict)))
	}
	for _, e := range strict {
		warn(e.Error())
	}
	return c, nil
}

// anyKind lets a serializer read whatever says its kind.
type anyKind struct{}

func (anyKind) New(schema.GroupVersionKind) (runtime.Object, error) {
	return &unstructured.Unstructured{}, nil
}

func (anyKind) ObjectKinds(o runtime.Object) ([]schema.GroupVersionKind, bool, error) {
	return []schema.GroupVersionKind{o.GetObjectKind().GroupVersionKind()}, false, nil
}

func (anyKind) Recognizes(schema.GroupVersionKind) bool { return true }

// customManager keeps the book of who set which field of objects of a kind defined at runtime.
func customManager(ctx context.Context, t *kinds.Type, subresource string) (fieldManager, error) {
	fields, err := t.Custom.Fields()
	if err != nil {
		return nil, fmt.Errorf("read the schema of %s for its fields: %w", t.GroupVersionKind, err)
	}
	reset := map[fieldpath.APIVersion]fieldpath.Filter{}
	if t.HasStatus && subresource == "" {
		reset[fieldpath.APIVersion(t.GroupVersion().String())] = fieldpath.NewExcludeSetFilter(fieldpath.NewSet(fieldpath.MakePathOrDie("status")))
	}
	m, err := managedfields.NewDefaultCRDFieldManager(fields, customConverter{t, func(o *kinds.Custom, to *kinds.Type) ([]*kinds.Custom, error) {
		return to.Custom.Convert(ctx, []*kinds.Custom{o}, to)
	}}, defaulter{}, customCreater{}, t.GroupVersionKind,
		t.GroupVersion(), subresource, reset)
	if err != nil {
		return nil, err
	}
	return unwrapped{m, t}, nil
}

// fieldManager is what apply and track need of a managedfields.FieldManager.
type fieldManager interface {
	Apply(live, applied runtime.Object, manager string, force bool) (runtime.Object, error)
	Update(live, new runtime.Object, manager string) (runtime.Object, error)
}

// unwrapped hands *kinds.Custom to a manager that wants *unstructured.Unstructured, and back.
type unwrapped struct {
	m fieldManager
	t *kinds.Type
}

func (u unwrapped) wrap(o runtime.Object, err error) (runtime.Object, error) {
	if err != nil {
		return nil, err
	}
	got, ok := o.(*unstructured.Unstructured)
	if !ok {
		return nil, errors.New("the merge has an unexpected form")
	}
	return &kinds.Custom{Unstructured: *got, Type: u.t}, nil
}

func bare(o runtime.Object) runtime.Object {
	if c, ok := o.(*kinds.Custom); ok {
		return &c.Unstructured
	}
	return o
}

func (u unwrapped) Apply(live, applied runtime.Object, manager string, force bool) (runtime.Object, error) {
	return u.wrap(u.m.Apply(bare(live), applied, manager, force))
}

func (u unwrapped) Update(live, new runtime.Object, manager string) (runtime.Object, error) {
	return u.wrap(u.m.Update(bare(live), bare(new), manager))
}

// customConverter converts for the book, which notes fields by version.
type customConverter struct {
	t  *kinds.Type
	do func(o *kinds.Custom, to *kinds.Type) ([]*kinds.Custom, error)
}

func (c customConverter) ConvertToVersion(in runtime.Object, gv runtime.GroupVersioner) (runtime.Object, error) {
	u, ok := in.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("convert a %T", in)
	}
	for _, t := range c.t.Custom.Versions {
		if got, ok := gv.KindForGroupVersionKinds([]schema.GroupVersionKind{t.GroupVersionKind}); !ok || got != t.GroupVersionKind {
			continue
		}
		list, err := c.do(&kinds.Custom{Unstructured: *u, Type: c.t}, t)
		if err != nil {
			return nil, err
		}
		return &list[0].Unstructured, nil
	}
	return nil, runtime.NewNotRegisteredErrForTarget("knarr", nil, gv)
}

func (customConverter) Convert(_, _, _ any) error {
	return errs.New(errs.Unsupported, "convert into an object")
}

func (customConverter) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

type customCreater struct{}

func (customCreater) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	return u, nil
}
