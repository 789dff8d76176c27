// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/knarr/knarr/apiserver/admission"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

// ephemeral adds containers to a running pod (kubectl debug). Those that are there stay as they are.
func (c *Core) ephemeral(ctx context.Context, r *Request) (Answer, error) {
	switch r.Verb {
	case client.Get:
		e, err := c.get(ctx, r)
		if err != nil {
			return Answer{}, err
		}
		return Answer{Object: e.Object, Entry: e}, nil
	case client.Patch:
		if err := checkPatch(r); err != nil {
			return Answer{}, err
		}
	}
	return c.revise(ctx, r, func(old *cache.Entry) (decision, error) {
		wanted := r.Object
		if r.Verb == client.Patch {
			var err error
			if wanted, err = patched(r, old.Object, r.Version); err != nil {
				return decision{}, err
			}
		}
		want, ok := wanted.(*corev1.Pod)
		if !ok {
			return decision{}, apierrors.NewBadRequest(fmt.Sprintf("expected a Pod, got a %T", wanted))
		}
		if err := checkPlace(r, want); err != nil {
			return decision{}, err
		}
		if err := preconditions(r, old.Object, want.UID, want.ResourceVersion); err != nil {
			return decision{}, err
		}
		was, next := old.Object.(*corev1.Pod), copyOf(old.Object).(*corev1.Pod)
		next.Spec.EphemeralContainers = want.DeepCopy().Spec.EphemeralContainers
		return c.withEphemeral(ctx, r, next, was)
	})
}

func (c *Core) withEphemeral(ctx context.Context, r *Request, next, was *corev1.Pod) (decision, error) {
	adm := c.admissionRequest(r, admission.Update, next, was)
	if err := c.Steps.Mutate(ctx, adm); err != nil {
		return decision{}, err
	}
	r.Type.Default(next)
	if !r.Type.SpecEqual(next, was) {
		next.Generation = was.Generation + 1
	}
	if list := append(c.faults(r, next), ephemeralFaults(next, was)...); len(list) > 0 {
		return decision{}, invalid(r, r.Name, list)
	}
	if err := c.Steps.Validate(ctx, adm); err != nil {
		return decision{}, err
	}
	if err := c.track(ctx, r, was, next); err != nil {
		return decision{}, err
	}
	return decision{next: next, demand: adm.Required()}, nil
}

func ephemeralFaults(next, was *corev1.Pod) (list field.ErrorList) {
	at := field.NewPath("spec", "ephemeralContainers")
	if _, static := was.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return append(list, field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers"))
	}
	now := map[string]*corev1.EphemeralContainer{}
	for i := range next.Spec.EphemeralContainers {
		now[next.Spec.EphemeralContainers[i].Name] = &next.Spec.EphemeralContainers[i]
	}
	for i := range was.Spec.EphemeralContainers {
		had := &was.Spec.EphemeralContainers[i]
		switch got := now[had.Name]; {
		case got == nil:
			list = append(list, field.Forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", had.Name)))
		case !equality.Semantic.DeepEqual(got, had):
			list = append(list, field.Forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be changed\n", had.Name)))
		}
	}
	return list
}
