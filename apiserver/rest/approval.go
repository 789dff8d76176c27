// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/knarr/knarr/apiserver/admission"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

// approval writes the conditions of a certificate signing request that say whether somebody approved it, with labels and
// annotations, and nothing else.
func (c *Core) approval(ctx context.Context, r *Request) (Answer, error) {
	if r.Verb == client.Get {
		e, err := c.get(ctx, r)
		if err != nil {
			return Answer{}, err
		}
		return Answer{Object: e.Object, Entry: e}, nil
	}
	return c.revise(ctx, r, func(old *cache.Entry) (decision, error) {
		obj, err := c.wanted(r, old)
		if err != nil {
			return decision{}, err
		}
		want, ok := obj.(*certificatesv1.CertificateSigningRequest)
		if !ok {
			return decision{}, apierrors.NewBadRequest(fmt.Sprintf("expected a CertificateSigningRequest, got a %T", obj))
		}
		if err := preconditions(r, old.Object, want.UID, want.ResourceVersion); err != nil {
			return decision{}, err
		}
		was := old.Object.(*certificatesv1.CertificateSigningRequest)
		next := was.DeepCopy()
		// As upstream: who approves may note in labels and annotations why.
		next.Labels, next.Annotations = want.Labels, want.Annotations
		next.Status.Conditions = slices.Clone(want.Status.Conditions)
		stampConditions(next.Status.Conditions, metav1.NewTime(c.Now()).Rfc3339Copy())
		faults := append(validation.ValidateObjectMetaAccessorUpdate(next, was, field.NewPath("metadata")), approvalFaults(next, was)...)
		if len(faults) > 0 {
			return decision{}, invalid(r, r.Name, faults)
		}
		adm := c.admissionRequest(r, admission.Update, next, was)
		if err := c.Steps.Mutate(ctx, adm); err != nil {
			return decision{}, err
		}
		if err := c.Steps.Validate(ctx, adm); err != nil {
			return decision{}, err
		}
		return decision{next: adm.Object, demand: adm.Required(), also: adm.Alsos()}, nil
	})
}

// wanted is the object that an update or a patch of old asks for.
func (c *Core) wanted(r *Request, old *cache.Entry) (kinds.Object, error) {
	if r.Verb == client.Update {
		return r.Object, checkPlace(r, r.Object)
	}
	if err := checkPatch(r); err != nil {
		return nil, err
	}
	return patched(r, old.Object, r.Version)
}

func stampConditions(list []certificatesv1.CertificateSigningRequestCondition, now metav1.Time) {
	for i := range list {
		if list[i].Status == "" {
			list[i].Status = corev1.ConditionTrue
		}
		if list[i].LastTransitionTime.IsZero() {
			list[i].LastTransitionTime = now
		}
		if list[i].LastUpdateTime.IsZero() {
			list[i].LastUpdateTime = now
		}
	}
}

// approvalFaults: what was approved or denied stays so, and not both.
func approvalFaults(next, was *certificatesv1.CertificateSigningRequest) (list field.ErrorList) {
	at := field.NewPath("status", "conditions")
	seen := map[certificatesv1.RequestConditionType]bool{}
	for i, c := range next.Status.Conditions {
		if c.Type == "" {
			list = append(list, field.Required(at.Index(i).Child("type"), ""))
		}
		if seen[c.Type] {
			list = append(list, field.Duplicate(at.Index(i).Child("type"), c.Type))
		}
		seen[c.Type] = true
		settled := c.Type == certificatesv1.CertificateApproved || c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed
		if settled && c.Status != corev1.ConditionTrue {
			list = append(list, field.NotSupported(at.Index(i).Child("status"), c.Status, []string{string(corev1.ConditionTrue)}))
		}
	}
	if seen[certificatesv1.CertificateApproved] && seen[certificatesv1.CertificateDenied] {
		list = append(list, field.Invalid(at, certificatesv1.CertificateApproved, "Approved and Denied conditions are mutually exclusive"))
	}
	for _, c := range was.Status.Conditions {
		if !seen[c.Type] {
			list = append(list, field.Forbidden(at, fmt.Sprintf("updates may not remove a condition of type %q", c.Type)))
		}
	}
	return list
}
