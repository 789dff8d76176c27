// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

func TestAFailedBindingIsTriedAgainThoughNothingElseChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := start(t, node("a"))
		w.Refuse(func(r client.Request) error {
			if r.Subresource == "binding" {
				return errs.New(errs.Unavailable, "no")
			}
			return nil
		})
		w.Put(pod("p"))
		synctest.Wait()
		w.Refuse(nil)
		time.Sleep(2 * pauseFirst)
		synctest.Wait()
		if n := nodeOf(w, "p"); n != "a" {
			t.Errorf("on %q after %v", n, 2*pauseFirst)
		}
	})
}

func TestTheConditionNeverOverwritesANewerStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := start(t)
		w.Put(pod("p"))
		synctest.Wait()
		w.Put(node("a", func(n *corev1.Node) { n.Spec.Unschedulable = true })) // the text changes after the pause
		synctest.Wait()
		w.Lag(true)
		p, _ := cache.Get[corev1.Pod](w.Cache.Snapshot(), "default", "p")
		p = p.DeepCopy()
		p.Status.Message = "by somebody else"
		w.Put(p)
		time.Sleep(2 * pauseFirst) // the scheduler decides on what it knows, which is old
		synctest.Wait()
		w.Lag(false)
		time.Sleep(2 * pauseMost)
		synctest.Wait()
		p, _ = cache.Get[corev1.Pod](w.Cache.Snapshot(), "default", "p")
		if p.Status.Message != "by somebody else" {
			t.Errorf("the message is %q", p.Status.Message)
		}
		const want = "0/1 nodes are available: 1 node(s) were unschedulable."
		if c := p.Status.Conditions; len(c) != 1 || c[0].Message != want {
			t.Errorf("conditions %v", c)
		}
	})
}

func TestRunEndsWithoutAnErrorWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := reconciletest.New(t.Context(), time.Now, node("a"))
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- New(w.Cache, w, &heard{}, slog.New(slog.DiscardHandler)).Run(ctx) }()
		synctest.Wait()
		cancel(errors.New("stop"))
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
