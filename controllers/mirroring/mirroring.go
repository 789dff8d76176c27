// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA1019 Endpoints are deprecated upstream, and still served and mirrored

// Package mirroring makes EndpointSlices of the Endpoints that people write for Services without a selector, since proxies and
// name servers read only slices.
//
// One slice a subset and family, at most 1000 addresses of a subset. Endpoints with the label endpointslice.kubernetes.io/skip-mirror are left
// alone, and so are those of Services with a selector: package endpointslice makes their slices from pods. It keeps no
// state; Decide is pure.
package mirroring

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/naming"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// manager is the value of the label that says whose a slice is.
const manager = "endpointslicemirroring-controller.k8s.io"

// most is how many addresses of a subset are mirrored.
const most = 1000

// State is all that Decide looks at; its objects are shared and read-only.
type State struct {
	Endpoints *corev1.Endpoints // nil: nothing is to be mirrored
	Slices    []*discoveryv1.EndpointSlice
	Now       time.Time
}

// Controller mirrors Endpoints.
func Controller() reconcile.Controller {
	return reconcile.Define("endpoint-slice-mirroring-controller", []reconcile.Watch{
		reconcile.Objects[corev1.Endpoints](),
		reconcile.Objects[corev1.Service](),
		reconcile.Mapped(func(_ *cache.Snapshot, e *discoveryv1.EndpointSlice) []reconcile.Key {
			if !ours(e) {
				return nil
			}
			return []reconcile.Key{{Namespace: e.Namespace, Name: e.Labels[discoveryv1.LabelServiceName]}}
		}),
	}, Observe, Decide)
}

func ours(e *discoveryv1.EndpointSlice) bool { return e.Labels[discoveryv1.LabelManagedBy] == manager }

// Observe gathers the Endpoints of one Service and their slices.
func Observe(s *cache.Snapshot, k reconcile.Key, now time.Time) (State, bool) {
	st := State{Now: now}
	svc, isService := cache.Get[corev1.Service](s, k.Namespace, k.Name)
	e, ok := cache.Get[corev1.Endpoints](s, k.Namespace, k.Name)
	if ok && isService && svc.Spec.Selector == nil && svc.Spec.Type != corev1.ServiceTypeExternalName && e.DeletionTimestamp == nil &&
		e.Labels[discoveryv1.LabelSkipMirror] != "true" && e.Annotations["control-plane.alpha.kubernetes.io/leader"] == "" {
		st.Endpoints = e
	}
	for x := range cache.List[discoveryv1.EndpointSlice](s, k.Namespace) {
		if ours(x) && x.Labels[discoveryv1.LabelServiceName] == k.Name && x.DeletionTimestamp == nil {
			st.Slices = append(st.Slices, x)
		}
	}
	return st, true
}

// Decide makes, changes and removes slices; those that are there are used for what is most like them first.
func Decide(s State) reconcile.Plan {
	p := reconcile.Plan{Why: "the slices must say what the endpoints do"}
	left := slices.Clone(s.Slices)
	var missing []*discoveryv1.EndpointSlice
	for _, want := range mirrored(s.Endpoints) {
		i := slices.IndexFunc(left, func(x *discoveryv1.EndpointSlice) bool { return same(x, want) })
		if i >= 0 {
			left = slices.Delete(left, i, i+1)
			continue
		}
		missing = append(missing, want)
	}
	for n, want := range missing {
		i := slices.IndexFunc(left, func(x *discoveryv1.EndpointSlice) bool { return x.AddressType == want.AddressType })
		if i < 0 {
			want.GenerateName = s.Endpoints.Name + "-"
			want.Name = naming.Generated(want.GenerateName, s.Endpoints.UID, s.Now, n)
			p.Actions = append(p.Actions, reconcile.Create{Object: want, Failed: &reconcile.Event{
				Regarding: s.Endpoints, Type: corev1.EventTypeWarning, Reason: "FailedToUpdateEndpointSlices", Message: "Error updating Endpoint Slices"}})
			continue
		}
		c := left[i].DeepCopy()
		c.Labels, c.Annotations, c.OwnerReferences = want.Labels, want.Annotations, want.OwnerReferences
		c.Endpoints, c.Ports = want.Endpoints, want.Ports
		p.Actions = append(p.Actions, reconcile.Update{Object: c})
		left = slices.Delete(left, i, i+1)
	}
	for _, x := range left {
		p.Actions = append(p.Actions, reconcile.Delete{Object: x})
	}
	return p
}

func same(a, b *discoveryv1.EndpointSlice) bool {
	return a.AddressType == b.AddressType && maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations) &&
		equality.Semantic.DeepEqual(a.Endpoints, b.Endpoints) && equality.Semantic.DeepEqual(a.Ports, b.Ports) &&
		equality.Semantic.DeepEqual(a.OwnerReferences, b.OwnerReferences)
}

// mirrored are the slices that say what e says.
func mirrored(e *corev1.Endpoints) []*discoveryv1.EndpointSlice {
	if e == nil {
		return nil
	}
	var out []*discoveryv1.EndpointSlice
	for i := range e.Subsets {
		sub := &e.Subsets[i]
		for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
			x := empty(e, family)
			x.Endpoints = endpoints(sub, family)
			if len(x.Endpoints) == 0 {
				continue
			}
			for k := range sub.Ports {
				p := sub.Ports[k]
				x.Ports = append(x.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: ptr(cmp.Or(p.Protocol, corev1.ProtocolTCP)), AppProtocol: p.AppProtocol})
			}
			out = append(out, x)
		}
	}
	return out
}

func empty(e *corev1.Endpoints, family discoveryv1.AddressType) *discoveryv1.EndpointSlice {
	x := &discoveryv1.EndpointSlice{AddressType: family, ObjectMeta: metav1.ObjectMeta{
		Namespace: e.Namespace, Labels: maps.Clone(e.Labels),
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(e, corev1.SchemeGroupVersion.WithKind("Endpoints"))},
	}}
	if x.Labels == nil {
		x.Labels = map[string]string{}
	}
	x.Labels[discoveryv1.LabelServiceName], x.Labels[discoveryv1.LabelManagedBy] = e.Name, manager
	for k, v := range e.Annotations {
		if k == corev1.LastAppliedConfigAnnotation {
			continue
		}
		if x.Annotations == nil {
			x.Annotations = map[string]string{}
		}
		x.Annotations[k] = v
	}
	return x
}

// endpoints are the addresses of a subset in one family: first those that are ready.
func endpoints(sub *corev1.EndpointSubset, family discoveryv1.AddressType) []discoveryv1.Endpoint {
	var out []discoveryv1.Endpoint
	add := func(list []corev1.EndpointAddress, ready bool) {
		for i := range list {
			a := &list[i]
			ip, err := netip.ParseAddr(a.IP)
			if err != nil || ip.Is4() != (family == discoveryv1.AddressTypeIPv4) || len(out) == most {
				continue
			}
			x := discoveryv1.Endpoint{Addresses: []string{a.IP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, TargetRef: a.TargetRef, NodeName: a.NodeName}
			if a.Hostname != "" {
				x.Hostname = ptr(strings.ToLower(a.Hostname))
			}
			out = append(out, x)
		}
	}
	add(sub.Addresses, true)
	add(sub.NotReadyAddresses, false)
	return out
}

func ptr[T any](v T) *T { return &v }
