// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"cmp"
	"context"
	"errors"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/knarr/knarr/apiserver/admission"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// generateTries is how often another random name is tried when the first is taken.
const generateTries = 8

func (c *Core) create(ctx context.Context, r *Request) (Answer, error) {
	if r.Type.Virtual {
		return Answer{}, methodNotSupported(r)
	}
	if r.Object.GetResourceVersion() != "" {
		return Answer{}, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	if err := checkPlace(r, r.Object); err != nil {
		return Answer{}, err
	}
	generate := r.Object.GetName() == "" && r.Object.GetGenerateName() != ""
	for try := 1; ; try++ {
		a, err := c.createOnce(ctx, r)
		switch {
		case err == nil:
			return a, nil
		case apierrors.IsAlreadyExists(err) && generate && try < generateTries:
		case errors.As(err, new(*lostRace)):
		default:
			return Answer{}, err
		}
	}
}

// createOnce makes the object with one choice of what the server chooses: name, addresses, ports.
func (c *Core) createOnce(ctx context.Context, r *Request) (Answer, error) {
	obj := copyOf(r.Object)
	c.begin(r, obj)
	if r.Tracked && r.Verb != Apply {
		empty := r.Version.New()
		empty.GetObjectKind().SetGroupVersionKind(r.Version.GroupVersionKind)
		if err := c.note(ctx, r, empty, obj); err != nil {
			return Answer{}, err
		}
	}
	adm := c.admissionRequest(r, admission.Create, obj, nil)
	adm.Name = obj.GetName()
	if err := c.Steps.Mutate(ctx, adm); err != nil {
		return Answer{}, err
	}
	obj = adm.Object
	r.Type.BeforeCreate(obj)
	r.Type.Default(obj)
	wished, err := c.allocate(obj, nil)
	if err != nil {
		return Answer{}, err
	}
	if list := c.faults(r, obj); len(list) > 0 {
		return Answer{}, invalid(r, obj.GetName(), list)
	}
	if err := c.Steps.Validate(ctx, adm); err != nil {
		return Answer{}, err
	}
	defined, err := c.definedStill(ctx, r)
	if err != nil {
		return Answer{}, err
	}
	w := write{
		key: r.Type.Key(obj.GetNamespace(), obj.GetName()), kind: r.Type,
		demand: append(adm.Required(), defined...), also: adm.Alsos(), next: obj,
	}
	if r.DryRun {
		_, exists, err := c.Find(ctx, r.Type, obj.GetNamespace(), obj.GetName())
		if exists {
			err = exists409(r, obj.GetName())
		}
		return Answer{Object: obj, Created: true}, err
	}
	stored, err := toStore(ctx, obj)
	if err != nil {
		return Answer{}, err
	}
	if w.value, err = cache.Encode(r.Type, stored); err != nil {
		return Answer{}, err
	}
	rev, err := c.put(ctx, &w)
	var lost *lostRace
	if errors.As(err, &lost) && lost.key == w.key {
		return Answer{}, exists409(r, obj.GetName())
	}
	if errors.As(err, &lost) {
		err = cmp.Or(claimLost(r, obj, wished, lost.key), err)
	}
	if err != nil {
		return Answer{}, err
	}
	c.remember(r, rev, obj.GetName())
	obj.SetResourceVersion(strconv.FormatInt(rev, 10))
	return Answer{Object: obj, Created: true}, nil
}

func exists409(r *Request, name string) error {
	return apierrors.NewAlreadyExists(r.Type.Resource().GroupResource(), name)
}

// begin fills in the metadata that belongs to the server.
func (c *Core) begin(r *Request, obj kinds.Object) {
	obj.GetObjectKind().SetGroupVersionKind(r.Type.GroupVersionKind)
	obj.SetNamespace(r.Namespace)
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		obj.SetName(generateName(obj.GetGenerateName()))
	}
	obj.SetUID(uuid.NewUUID())
	obj.SetCreationTimestamp(metav1.NewTime(c.Now()).Rfc3339Copy())
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
	if r.Verb != Apply {
		obj.SetManagedFields(nil)
	}
	obj.SetGeneration(0)
	if !r.Type.NoGeneration {
		obj.SetGeneration(1)
	}
	r.Type.Default(obj)
}

// generateName appends five random letters and digits, within the 63 characters that most names may have.
func generateName(base string) string {
	const random, most = 5, 63
	if len(base) > most-random {
		base = base[:most-random]
	}
	return base + rand.String(random)
}

// faults are all faults of a whole object.
func (c *Core) faults(r *Request, obj kinds.Object) field.ErrorList {
	list := validation.ValidateObjectMetaAccessor(obj, !r.Type.Cluster, r.Type.ValidateName, field.NewPath("metadata"))
	list = append(list, r.Type.Validate(obj)...)
	return append(list, c.Services.faults(obj)...)
}

// checkPlace refuses a body that names another place than the request.
func checkPlace(r *Request, obj kinds.Object) error {
	if ns := obj.GetNamespace(); ns != "" && ns != r.Namespace {
		if r.Type.Cluster {
			return nil // the object is of no namespace whatever it says; validation tells
		}
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	if r.Name != "" && obj.GetName() != "" && obj.GetName() != r.Name {
		return apierrors.NewBadRequest("the name of the object (" + obj.GetName() + ") does not match the name on the URL (" + r.Name + ")")
	}
	return nil
}
