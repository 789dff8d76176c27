// SPDX-License-Identifier: Apache-2.0

// Package endpointslice keeps the EndpointSlices of Services: the addresses of the pods that a Service selects, and whether
// each may get traffic.
//
// It touches only slices that carry its own managed-by label, so Services without a selector, whose slices people write
// themselves, are left alone. At most a hundred endpoints are in a slice; endpoints stay in the slice where they are, so
// that a change of one pod rewrites one slice. It keeps no state; Decide is pure. Files: state.go, endpoint.go (one pod as
// an endpoint), decide.go.
package endpointslice

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// ManagedBy is the value of the label that marks the slices of this controller.
const ManagedBy = "endpointslice-controller.k8s.io"

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Service *corev1.Service
	Pods    []*corev1.Pod                // that it selects, by name
	Slices  []*discoveryv1.EndpointSlice // of this controller, by name
	Zones   map[string]string            // of the pods' nodes
	Now     time.Time
}

// Controller keeps EndpointSlices.
func Controller() reconcile.Controller {
	return reconcile.Define("endpoint-slice-controller", []reconcile.Watch{
		reconcile.Objects[corev1.Service](),
		reconcile.Mapped(Selecting),
		reconcile.Mapped(ofService),
	}, Observe, Decide)
}

// Selecting are the Services that select a pod.
func Selecting(s *cache.Snapshot, p *corev1.Pod) []reconcile.Key {
	var keys []reconcile.Key
	for svc := range cache.List[corev1.Service](s, p.Namespace) {
		if len(svc.Spec.Selector) > 0 && pods.Has(p.Labels, svc.Spec.Selector) {
			keys = append(keys, reconcile.Key{Namespace: svc.Namespace, Name: svc.Name})
		}
	}
	return keys
}

func ofService(_ *cache.Snapshot, e *discoveryv1.EndpointSlice) []reconcile.Key {
	if e.Labels[discoveryv1.LabelManagedBy] != ManagedBy || e.Labels[discoveryv1.LabelServiceName] == "" {
		return nil
	}
	return []reconcile.Key{{Namespace: e.Namespace, Name: e.Labels[discoveryv1.LabelServiceName]}}
}

// Observe gathers one Service, its pods and its slices.
func Observe(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
	svc, ok := cache.Get[corev1.Service](s, k.Namespace, k.Name)
	if !ok {
		return State{}, false // its slices are garbage by their owner
	}
	st := State{Service: svc, Now: now, Zones: map[string]string{}}
	for e := range cache.List[discoveryv1.EndpointSlice](s, k.Namespace) {
		if e.Labels[discoveryv1.LabelServiceName] == k.Name && e.Labels[discoveryv1.LabelManagedBy] == ManagedBy {
			st.Slices = append(st.Slices, e)
		}
	}
	for _, p := range Selected(s, svc) {
		st.Pods = append(st.Pods, p)
		if n, ok := cache.Get[corev1.Node](s, "", p.Spec.NodeName); ok && n.Labels[corev1.LabelTopologyZone] != "" {
			st.Zones[n.Name] = n.Labels[corev1.LabelTopologyZone]
		}
	}
	return st, true
}

// Selected are the pods a Service selects; none without a selector.
func Selected(s *cache.Snapshot, svc *corev1.Service) []*corev1.Pod {
	if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	var out []*corev1.Pod
	for p := range cache.List[corev1.Pod](s, svc.Namespace) {
		if pods.Has(p.Labels, svc.Spec.Selector) {
			out = append(out, p)
		}
	}
	return out
}
