// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/lifecycle"
	"github.com/knarr/knarr/state/client"
)

const writeTimeout = 10 * time.Second

// report writes the pod's status if it has changed. The version it was worked out from is the precondition: who wrote
// meanwhile wins, and the change wakes us.
func (w *worker) report(ctx context.Context, s *lifecycle.State) error {
	if s.Pod == nil {
		return nil
	}
	status := lifecycle.Status(s)
	if equality.Semantic.DeepEqual(status, s.Pod.Status) {
		return nil
	}
	p := *s.Pod // shallow: only the status is ours
	p.Status = status
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	out, err := w.k.pods.UpdateStatus(ctx, &p)
	switch {
	case errors.Is(err, errs.NotFound), errors.Is(err, errs.Conflict):
		w.poke() // the cache has it, or will in a moment
		return err
	case err != nil:
		return err
	}
	if out != nil && out.UID == w.uid {
		w.written = out
		s.Pod = out
	}
	return nil
}

// deleteObject removes the pod from the API.
func (w *worker) deleteObject(ctx context.Context, p *corev1.Pod) error {
	now := int64(0)
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := w.k.pods.Delete(ctx, p.Namespace, p.Name, client.DeleteOptions{UID: p.UID, GracePeriod: &now})
	if errors.Is(err, errs.NotFound) || errors.Is(err, errs.Conflict) {
		err = nil // somebody was faster; a conflict is another pod of that name
	}
	if err == nil && len(p.Finalizers) == 0 {
		w.gone = true
	}
	return err
}
