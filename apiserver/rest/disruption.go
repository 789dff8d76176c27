// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

// maxDisrupted bounds the pods a budget remembers as evicted and not yet seen gone.
const maxDisrupted = 2000

// spend takes one disruption from the budget that covers a pod, or says why it may not be evicted now. A pod that has
// ended, waits for a node or is being deleted costs nothing; nor does an unready pod where its budget allows that.
func (c *Core) spend(ctx context.Context, r *Request, dryRun bool) error {
	e, err := c.get(ctx, &Request{Request: client.Request{Type: r.Type, Namespace: r.Namespace, Name: r.Name}})
	if err != nil {
		return err
	}
	pod := e.Object.(*corev1.Pod)
	switch {
	case pod.DeletionTimestamp != nil, pod.Status.Phase == corev1.PodPending, pod.Status.Phase == corev1.PodSucceeded, pod.Status.Phase == corev1.PodFailed:
		return nil
	}
	budget, err := c.budgetOf(pod)
	if err != nil || budget == nil {
		return err
	}
	t := kinds.For[policyv1.PodDisruptionBudget]()
	one := &Request{Request: client.Request{Type: t, Namespace: budget.Namespace, Name: budget.Name}, User: r.User, Version: &t.Served[0], Warn: r.Warn}
	_, err = c.revise(ctx, one, func(old *cache.Entry) (decision, error) {
		next := copyOf(old.Object).(*policyv1.PodDisruptionBudget)
		if !podReady(pod) && unreadyIsFree(next) {
			return decision{next: old.Object, keep: true}, nil
		}
		if err := mayEvict(next); err != nil {
			return decision{}, err
		}
		if dryRun {
			return decision{next: old.Object, keep: true}, nil
		}
		next.Status.DisruptionsAllowed--
		if next.Status.DisruptedPods == nil {
			next.Status.DisruptedPods = map[string]metav1.Time{}
		}
		next.Status.DisruptedPods[pod.Name] = metav1.NewTime(c.Now()).Rfc3339Copy()
		return decision{next: next}, nil
	})
	if apierrors.IsNotFound(err) {
		return nil // it was deleted meanwhile
	}
	return err
}

// budgetOf is the one budget of a pod; nil when there is none, an error when there are several.
func (c *Core) budgetOf(pod *corev1.Pod) (*policyv1.PodDisruptionBudget, error) {
	var found *policyv1.PodDisruptionBudget
	for b := range cache.List[policyv1.PodDisruptionBudget](c.Cache.Snapshot(), pod.Namespace) {
		s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || !s.Matches(labels.Set(pod.Labels)) {
			continue
		}
		if found != nil {
			return nil, apierrors.NewInternalError(errs.New(errs.Conflict, "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."))
		}
		found = b
	}
	return found, nil
}

// unreadyIsFree: pods that do not work anyway may go, always or while the budget has what it wants.
func unreadyIsFree(b *policyv1.PodDisruptionBudget) bool {
	if p := b.Spec.UnhealthyPodEvictionPolicy; p != nil && *p == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0
}

func mayEvict(b *policyv1.PodDisruptionBudget) error {
	cause := func(text string, retry int) error {
		err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", retry)
		err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: text})
		return err
	}
	switch {
	case b.Status.ObservedGeneration < b.Generation:
		return cause(fmt.Sprintf("The disruption budget %s is still being processed by the server.", b.Name), 10)
	case b.Status.DisruptionsAllowed < 0:
		return apierrors.NewForbidden(policyv1.Resource("poddisruptionbudget"), b.Name, fmt.Errorf("pdb disruptions allowed is negative"))
	case len(b.Status.DisruptedPods) > maxDisrupted:
		return apierrors.NewForbidden(policyv1.Resource("poddisruptionbudget"), b.Name, fmt.Errorf("DisruptedPods map too big - too many evictions not confirmed by PDB controller"))
	case b.Status.DisruptionsAllowed == 0:
		return cause(fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy), 0)
	}
	return nil
}

func podReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
