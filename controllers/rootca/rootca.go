// SPDX-License-Identifier: Apache-2.0

// Package rootca copies the ConfigMap kube-root-ca.crt from kube-system, where the API server keeps it, to every other
// namespace: what pods check the API server's certificate with.
//
// It keeps no state; Decide is pure.
package rootca

import (
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// note is the annotation that tells people what the ConfigMap is for.
const note = "kubernetes.io/description"

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Namespace *corev1.Namespace
	Source    *corev1.ConfigMap // nil: the API server has not made it yet
	Have      *corev1.ConfigMap
}

// Controller copies the ConfigMap.
func Controller() reconcile.Controller {
	return reconcile.Define("root-ca-certificate-publisher", []reconcile.Watch{
		reconcile.Objects[corev1.Namespace](),
		reconcile.Mapped(concerned),
	}, Observe, Decide)
}

func concerned(s *cache.Snapshot, m *corev1.ConfigMap) []reconcile.Key {
	switch {
	case m.Name != kinds.RootCA:
		return nil
	case m.Namespace != metav1.NamespaceSystem:
		return []reconcile.Key{{Name: m.Namespace}}
	}
	var all []reconcile.Key
	for ns := range cache.List[corev1.Namespace](s, "") {
		all = append(all, reconcile.Key{Name: ns.Name})
	}
	return all
}

// Observe looks at one namespace.
func Observe(s *cache.Snapshot, k reconcile.Key, _ time.Time) (State, bool) {
	ns, ok := cache.Get[corev1.Namespace](s, "", k.Name)
	if !ok || ns.Name == metav1.NamespaceSystem {
		return State{}, false
	}
	st := State{Namespace: ns}
	st.Source, _ = cache.Get[corev1.ConfigMap](s, metav1.NamespaceSystem, kinds.RootCA)
	st.Have, _ = cache.Get[corev1.ConfigMap](s, ns.Name, kinds.RootCA)
	return st, true
}

// Decide says what to do next for one namespace.
func Decide(s State) reconcile.Plan {
	if s.Source == nil || s.Namespace.DeletionTimestamp != nil {
		return reconcile.Plan{}
	}
	if s.Have == nil {
		return reconcile.Plan{
			Actions: []reconcile.Action{reconcile.Create{Object: &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace.Name, Name: kinds.RootCA, Annotations: map[string]string{
					note: "The CA certificate to verify the API server with inside the cluster, for example as kubernetes.default.svc.",
				}},
				Data: maps.Clone(s.Source.Data),
			}}},
			Why: "the namespace has none",
		}
	}
	if maps.Equal(s.Have.Data, s.Source.Data) {
		return reconcile.Plan{}
	}
	c := s.Have.DeepCopy()
	c.Data = maps.Clone(s.Source.Data)
	return reconcile.Plan{Actions: []reconcile.Action{reconcile.Update{Object: c}}, Why: "the certificate changed"}
}
