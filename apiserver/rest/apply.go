// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	applyconfigurations "k8s.io/client-go/applyconfigurations"
	"sigs.k8s.io/yaml"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// appliers are the field managers, one for each version and subresource, made when first needed: the schemas they work by
// take a tenth of a second to read, and many clusters never see a server-side apply.
type appliers struct {
	mu   sync.Mutex // guards the rest
	by   map[applier]*managedfields.FieldManager
	conv managedfields.TypeConverter
}

type applier struct {
	gvk         schema.GroupVersionKind
	subresource string
}

// get is what keeps the book of who set which field, metadata.managedFields.
func (a *appliers) get(ctx context.Context, t *kinds.Type, v *kinds.Version, subresource string) (fieldManager, error) {
	if t.Custom != nil {
		return customManager(ctx, t, subresource)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	key := applier{v.GroupVersionKind, subresource}
	if m, ok := a.by[key]; ok {
		return m, nil
	}
	if a.by == nil {
		a.by = map[applier]*managedfields.FieldManager{}
		a.conv = applyconfigurations.NewTypeConverter(kinds.Scheme())
	}
	conv := a.conv
	empty := v.New()
	empty.GetObjectKind().SetGroupVersionKind(v.GroupVersionKind)
	if _, err := conv.ObjectToTyped(empty); err != nil && strings.Contains(err.Error(), "no type found") {
		// A kind that client-go has no schema of: its lists count as one field each.
		conv = managedfields.NewDeducedTypeConverter()
	}
	m, err := managedfields.NewDefaultFieldManager(conv, converter{t}, defaulter{t}, creater{}, v.GroupVersionKind,
		t.GroupVersion(), subresource, nil)
	if err == nil {
		a.by[key] = m
	}
	return m, err
}

// apply merges an applied configuration into the object, or makes it.
func (c *Core) apply(ctx context.Context, r *Request) (Answer, error) {
	if r.FieldManager == "" {
		return Answer{}, apierrors.NewBadRequest("PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch")
	}
	intent, err := appliedObject(r)
	if err != nil {
		return Answer{}, err
	}
	m, err := c.appliers.get(ctx, r.Type, r.Version, r.Subresource)
	if err != nil {
		return Answer{}, err
	}
	left := maxFields
	if count(reflect.ValueOf(intent.Object), &left); left < 0 {
		return Answer{}, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("an applied configuration may have %d fields; use update for larger objects", maxFields))
	}
	a, err := c.revise(ctx, r, func(old *cache.Entry) (decision, error) {
		merged, err := m.Apply(ToVersion(copyOf(old.Object), r.Version), intent.DeepCopy(), r.FieldManager, r.Force)
		if err != nil {
			return decision{}, err
		}
		obj := r.Version.ToHub(merged.(kinds.Object))
		r.Version.Default(obj)
		obj.SetResourceVersion(intent.GetResourceVersion())
		r.Type.Default(obj)
		return c.replace(ctx, r, old, obj)
	})
	if !apierrors.IsNotFound(err) || r.Subresource != "" || intent.GetUID() != "" || intent.GetResourceVersion() != "" {
		return a, err
	}
	return c.applyNew(ctx, r, m, intent)
}

func (c *Core) applyNew(ctx context.Context, r *Request, m fieldManager, intent *unstructured.Unstructured) (Answer, error) {
	empty := r.Version.New()
	empty.GetObjectKind().SetGroupVersionKind(r.Version.GroupVersionKind)
	empty.SetName(r.Name)
	empty.SetNamespace(r.Namespace)
	merged, err := m.Apply(empty, intent.DeepCopy(), r.FieldManager, r.Force)
	if err != nil {
		return Answer{}, err
	}
	one := *r
	one.Object = r.Version.ToHub(merged.(kinds.Object))
	r.Version.Default(one.Object)
	a, err := c.create(ctx, &one)
	if apierrors.IsAlreadyExists(err) {
		return c.apply(ctx, r) // somebody made it in between
	}
	return a, err
}

// appliedObject reads the configuration; it must say what it is.
func appliedObject(r *Request) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(r.Patch, &u.Object); err != nil {
		return nil, apierrors.NewBadRequest("error decoding YAML: " + err.Error())
	}
	if u.GroupVersionKind() != r.Version.GroupVersionKind {
		return nil, apierrors.NewBadRequest("the applied configuration is a " + u.GroupVersionKind().String() +
			", the URL names a " + r.Version.GroupVersionKind.String())
	}
	if r.Validation == Strict || r.Validation == Warn {
		// Fields that the schema does not know are refused by the merge, whatever fieldValidation says; duplicates only here.
		if err := yaml.UnmarshalStrict(r.Patch, &map[string]any{}); err != nil && r.Validation == Strict {
			return nil, apierrors.NewBadRequest("error strict decoding YAML: " + err.Error())
		} else if err != nil {
			r.Warn(err.Error())
		}
	}
	asJSON, err := u.MarshalJSON()
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	obj, err := DecodeHub(asJSON, JSON, r.Version, Ignore, r.Warn)
	if err != nil {
		return nil, err
	}
	if len(obj.GetManagedFields()) > 0 {
		return nil, apierrors.NewBadRequest("metadata.managedFields must be nil")
	}
	if u.GetName() == "" {
		u.SetName(r.Name)
	}
	if u.GetNamespace() == "" && !r.Type.Cluster {
		u.SetNamespace(r.Namespace)
	}
	return u, checkPlace(r, obj)
}

// track keeps the book on an ordinary write: of whoever is tracked, and to every object that has a book.
func (c *Core) track(ctx context.Context, r *Request, old, obj kinds.Object) error {
	if r.Verb == Apply {
		return nil // Apply has written it
	}
	if len(old.GetManagedFields()) == 0 && !r.Tracked {
		obj.SetManagedFields(nil)
		return nil
	}
	return c.note(ctx, r, ToVersion(old, r.Version), obj)
}

// note writes into obj's book what the request's manager changes about old, which is in the request's version.
func (c *Core) note(ctx context.Context, r *Request, old, obj kinds.Object) error {
	if wide(obj) || wide(old) {
		obj.SetManagedFields(old.GetManagedFields())
		return nil
	}
	m, err := c.appliers.get(ctx, r.Type, r.Version, r.Subresource)
	if err != nil {
		return err
	}
	manager := r.FieldManager
	if manager == "" {
		manager = "unknown"
	}
	next, err := m.Update(old, ToVersion(obj, r.Version), manager)
	if err != nil {
		// No write fails for want of its entry in the book.
		c.log.Warn("note who set which field", "kind", r.Type.Kind, "name", obj.GetName(), "err", err)
		obj.SetManagedFields(old.GetManagedFields())
		return nil
	}
	obj.SetManagedFields(next.(kinds.Object).GetManagedFields())
	return nil
}

// maxFields is how many fields an object may have for its book to be kept: the library's sets cost their square to make.
const maxFields = 5000

// wide reports whether an object has more entries of maps and lists than maxFields.
func wide(o kinds.Object) bool {
	left := maxFields
	var of any = o
	if c, ok := o.(*kinds.Custom); ok {
		of = c.Object
	}
	count(reflect.ValueOf(of), &left)
	return left < 0
}

func count(v reflect.Value, left *int) {
	if *left < 0 {
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		count(v.Elem(), left)
	case reflect.Struct:
		for i := range v.NumField() {
			count(v.Field(i), left)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		*left -= v.Len()
		for i := 0; i < v.Len() && *left >= 0; i++ {
			count(v.Index(i), left)
		}
	case reflect.Map:
		*left -= v.Len()
		switch v.Type().Elem().Kind() {
		case reflect.String, reflect.Slice:
			return
		}
		for i := v.MapRange(); *left >= 0 && i.Next(); {
			count(i.Value(), left)
		}
	}
}

// converter converts between the served versions of one kind, over its hub.
type converter struct{ t *kinds.Type }

func (c converter) version(gv runtime.GroupVersioner) *kinds.Version {
	for i := range c.t.Served {
		v := &c.t.Served[i]
		if got, ok := gv.KindForGroupVersionKinds([]schema.GroupVersionKind{v.GroupVersionKind}); ok && got == v.GroupVersionKind {
			return v
		}
	}
	return nil
}

func (c converter) ConvertToVersion(in runtime.Object, gv runtime.GroupVersioner) (runtime.Object, error) {
	// By Go type: an object just made by creater does not say its kind.
	known, _, err := kinds.Scheme().ObjectKinds(in)
	if err != nil {
		return nil, err
	}
	from := c.version(known[0].GroupVersion())
	to := c.version(gv)
	if from == nil || to == nil {
		return nil, runtime.NewNotRegisteredErrForTarget("knarr", nil, gv)
	}
	obj, err := typed(in, from)
	if err != nil {
		return nil, err
	}
	if from == to {
		obj.GetObjectKind().SetGroupVersionKind(to.GroupVersionKind)
		return obj, nil
	}
	return ToVersion(copyOf(from.ToHub(obj)), to), nil
}

// typed is an object of the Go type of v: merges come without one.
func typed(in runtime.Object, v *kinds.Version) (kinds.Object, error) {
	u, ok := in.(*unstructured.Unstructured)
	if !ok {
		return in.(kinds.Object), nil
	}
	obj := v.New()
	return obj, runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, obj)
}

func (c converter) Convert(_, _, _ any) error {
	return errs.New(errs.Unsupported, "convert into an object")
}

func (c converter) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

// defaulter does nothing: defaults are filled in after the merge, so that nobody owns a field he did not set.
type defaulter struct{ t *kinds.Type }

func (defaulter) Default(runtime.Object) {}

type creater struct{}

func (creater) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	return kinds.Scheme().New(gvk)
}
