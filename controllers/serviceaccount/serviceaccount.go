// SPDX-License-Identifier: Apache-2.0

// Package serviceaccount makes sure that each living namespace has its ServiceAccount "default".
//
// It keeps no state; Decide is pure.
package serviceaccount

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Namespace *corev1.Namespace
	Exists    bool
}

// Controller makes the default ServiceAccounts.
func Controller() reconcile.Controller {
	return reconcile.Define("service-account-controller", []reconcile.Watch{
		reconcile.Objects[corev1.Namespace](),
		reconcile.Mapped(func(_ *cache.Snapshot, a *corev1.ServiceAccount) []reconcile.Key {
			if a.Name != kinds.DefaultAccount {
				return nil
			}
			return []reconcile.Key{{Name: a.Namespace}}
		}),
	}, Observe, Decide)
}

// Observe looks at one namespace.
func Observe(s *cache.Snapshot, k reconcile.Key, _ time.Time) (State, bool) {
	ns, ok := cache.Get[corev1.Namespace](s, "", k.Name)
	if !ok {
		return State{}, false
	}
	_, exists := cache.Get[corev1.ServiceAccount](s, ns.Name, kinds.DefaultAccount)
	return State{ns, exists}, true
}

// Decide says what to do next for one namespace.
func Decide(s State) reconcile.Plan {
	if s.Exists || s.Namespace.DeletionTimestamp != nil {
		return reconcile.Plan{}
	}
	return reconcile.Plan{
		Actions: []reconcile.Action{reconcile.Create{Object: &corev1.ServiceAccount{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace.Name, Name: kinds.DefaultAccount},
		}}},
		Why: "the namespace has no default service account",
	}
}
