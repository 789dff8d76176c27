// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA1019 Endpoints are deprecated upstream, and still served and made

// Package endpoints keeps the older form of what package endpointslice keeps: one Endpoints object for each Service with a
// selector, for the clients that still read it.
//
// Services without a selector are left alone. It keeps no state; Decide is pure.
package endpoints

import (
	"cmp"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/endpointslice"
	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// most is how many addresses an Endpoints object has at most; the annotation says when some are missing.
const (
	most           = 1000
	managedByLabel = "endpoints.kubernetes.io/managed-by"
	managedBy      = "endpoint-controller"
)

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Service   *corev1.Service
	Pods      []*corev1.Pod
	Endpoints *corev1.Endpoints //nolint:staticcheck // deprecated, and read by many all the same
}

// Controller keeps Endpoints.
func Controller() reconcile.Controller {
	return reconcile.Define("endpoint-controller", []reconcile.Watch{
		reconcile.Objects[corev1.Service](),
		reconcile.Objects[corev1.Endpoints](), //nolint:staticcheck // as above
		reconcile.Mapped(endpointslice.Selecting),
	}, Observe, Decide)
}

// Observe gathers one Service, its pods and its Endpoints.
func Observe(s *cache.Snapshot, k reconcile.Key, _ time.Time) (State, bool) {
	svc, ok := cache.Get[corev1.Service](s, k.Namespace, k.Name)
	if !ok {
		// Endpoints have no owner; those of this controller end with their Service.
		e, ok := cache.Get[corev1.Endpoints](s, k.Namespace, k.Name) //nolint:staticcheck // as above
		return State{Endpoints: e}, ok
	}
	st := State{Service: svc, Pods: endpointslice.Selected(s, svc)}
	st.Endpoints, _ = cache.Get[corev1.Endpoints](s, k.Namespace, k.Name) //nolint:staticcheck // as above
	return st, true
}

// Decide says what to do next for one Service.
func Decide(s State) reconcile.Plan {
	svc := s.Service
	if svc == nil {
		if s.Endpoints.Labels[managedByLabel] != managedBy || s.Endpoints.DeletionTimestamp != nil {
			return reconcile.Plan{}
		}
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Delete{Object: s.Endpoints}}, Why: "its service is gone"}
	}
	if svc.DeletionTimestamp != nil || len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return reconcile.Plan{}
	}
	want := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name}} //nolint:staticcheck // as above
	if s.Endpoints != nil {
		want = s.Endpoints.DeepCopy()
	}
	want.Labels = labelsOf(svc)
	want.Subsets = subsets(svc, s.Pods)
	switch {
	case s.Endpoints == nil:
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Create{Object: want}}, Why: "the service has none yet"}
	case !equality.Semantic.DeepEqual(want, s.Endpoints):
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Update{Object: want}}, Why: "the selected pods changed"}
	}
	return reconcile.Plan{}
}

func labelsOf(svc *corev1.Service) map[string]string {
	l := maps.Clone(svc.Labels)
	if l == nil {
		l = map[string]string{}
	}
	delete(l, corev1.IsHeadlessService)
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		l[corev1.IsHeadlessService] = ""
	}
	l[managedByLabel] = managedBy
	return l
}

// subsets groups the addresses by the set of ports they have.
func subsets(svc *corev1.Service, selected []*corev1.Pod) []corev1.EndpointSubset { //nolint:staticcheck // as above
	family := discoveryv1.AddressTypeIPv4
	if len(svc.Spec.IPFamilies) > 0 {
		family = discoveryv1.AddressType(svc.Spec.IPFamilies[0])
	}
	var out []corev1.EndpointSubset //nolint:staticcheck // as above
	count := 0
	for _, p := range selected {
		ip := endpointslice.Address(p, family)
		publish := svc.Spec.PublishNotReadyAddresses
		if ip == "" || pods.Ended(p) || p.DeletionTimestamp != nil && !publish || count == most {
			continue
		}
		count++
		a := corev1.EndpointAddress{ //nolint:staticcheck // as above
			IP: ip, NodeName: &p.Spec.NodeName,
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		}
		if p.Spec.Subdomain == svc.Name {
			a.Hostname = p.Spec.Hostname
		}
		ports := portsOn(svc, p)
		i := slices.IndexFunc(out, func(s corev1.EndpointSubset) bool { return equality.Semantic.DeepEqual(s.Ports, ports) }) //nolint:staticcheck // as above
		if i < 0 {
			i = len(out)
			out = append(out, corev1.EndpointSubset{Ports: ports}) //nolint:staticcheck // as above
		}
		if publish || pods.Ready(p) {
			out[i].Addresses = append(out[i].Addresses, a)
		} else {
			out[i].NotReadyAddresses = append(out[i].NotReadyAddresses, a)
		}
	}
	for _, s := range out {
		byIP := func(a, b corev1.EndpointAddress) int { return cmp.Compare(a.IP, b.IP) } //nolint:staticcheck // as above
		slices.SortStableFunc(s.Addresses, byIP)
		slices.SortStableFunc(s.NotReadyAddresses, byIP)
	}
	slices.SortStableFunc(out, func(a, b corev1.EndpointSubset) int { return cmp.Compare(firstPort(a), firstPort(b)) }) //nolint:staticcheck // as above
	return out
}

func firstPort(s corev1.EndpointSubset) int32 { //nolint:staticcheck // as above
	if len(s.Ports) == 0 {
		return 0
	}
	return s.Ports[0].Port
}

func portsOn(svc *corev1.Service, p *corev1.Pod) []corev1.EndpointPort { //nolint:staticcheck // as above
	var out []corev1.EndpointPort //nolint:staticcheck // as above
	for i := range svc.Spec.Ports {
		sp := &svc.Spec.Ports[i]
		if n := endpointslice.TargetPort(sp, p); n != 0 {
			out = append(out, corev1.EndpointPort{Name: sp.Name, Port: n, Protocol: sp.Protocol, AppProtocol: sp.AppProtocol}) //nolint:staticcheck // as above
		}
	}
	return out
}
