// SPDX-License-Identifier: Apache-2.0

package endpointslice

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/controllers/naming"
	"github.com/knarr/knarr/state/reconcile"
)

// perSlice is how many endpoints a slice has at most.
const perSlice = 100

// group is what goes into the same slices: endpoints of one family with the same ports.
type group struct {
	family    discoveryv1.AddressType
	ports     []discoveryv1.EndpointPort
	endpoints map[string]discoveryv1.Endpoint // by the pod's UID
	order     []string
	slices    []*discoveryv1.EndpointSlice
}

// Decide says what to do next for one Service.
func Decide(s State) reconcile.Plan {
	svc := s.Service
	if svc.DeletionTimestamp != nil || len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return reconcile.Plan{}
	}
	groups, stale := gather(&s)
	var batch reconcile.Batch
	n := 0
	for _, g := range groups {
		batch.Actions = append(batch.Actions, g.fill(&s, &n)...)
	}
	for _, e := range stale {
		batch.Actions = append(batch.Actions, reconcile.Delete{Object: e})
	}
	if len(batch.Actions) == 0 {
		return reconcile.Plan{}
	}
	return reconcile.Plan{Actions: []reconcile.Action{batch}, Why: "the selected pods changed"}
}

// gather sorts the pods and the existing slices into groups; stale are slices of no group.
func gather(s *State) (groups []*group, stale []*discoveryv1.EndpointSlice) {
	byKey := map[string]*group{}
	find := func(family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) *group {
		key := string(family) + " " + portsKey(ports)
		g := byKey[key]
		if g == nil {
			g = &group{family: family, ports: ports, endpoints: map[string]discoveryv1.Endpoint{}}
			byKey[key] = g
			groups = append(groups, g)
		}
		return g
	}
	for _, family := range families(s.Service) {
		before := len(groups)
		for _, p := range s.Pods {
			e, ok := endpoint(s, p, family)
			if !ok {
				continue
			}
			g := find(family, ports(s.Service, p))
			g.endpoints[string(p.UID)] = e
			g.order = append(g.order, string(p.UID))
		}
		if len(groups) == before { // a slice without endpoints says that there are none
			find(family, nil)
		}
	}
	for _, e := range s.Slices {
		if g := byKey[string(e.AddressType)+" "+portsKey(e.Ports)]; g != nil {
			g.slices = append(g.slices, e)
		} else {
			stale = append(stale, e)
		}
	}
	return groups, stale
}

// fill brings a group's slices up to date: what is there stays in its slice, what is new goes where there is room.
func (g *group) fill(s *State, made *int) []reconcile.Action {
	rest := maps.Clone(g.endpoints)
	kept := make([][]discoveryv1.Endpoint, len(g.slices))
	for i, e := range g.slices {
		for _, old := range e.Endpoints {
			uid := ""
			if old.TargetRef != nil {
				uid = string(old.TargetRef.UID)
			}
			if now, ok := rest[uid]; ok && len(kept[i]) < perSlice {
				kept[i] = append(kept[i], now)
				delete(rest, uid)
			}
		}
	}
	for _, uid := range g.order {
		e, ok := rest[uid]
		if !ok {
			continue
		}
		i := slices.IndexFunc(kept, func(in []discoveryv1.Endpoint) bool { return len(in) < perSlice })
		if i < 0 {
			i = len(kept)
			kept = append(kept, nil)
		}
		kept[i] = append(kept[i], e)
	}
	if len(kept) == 0 {
		kept = append(kept, nil)
	}
	return g.write(s, kept, made)
}

func (g *group) write(s *State, want [][]discoveryv1.Endpoint, made *int) []reconcile.Action {
	var out []reconcile.Action
	filled := slices.ContainsFunc(want, func(in []discoveryv1.Endpoint) bool { return len(in) > 0 })
	for i, endpoints := range want {
		switch {
		case i >= len(g.slices):
			out = append(out, reconcile.Create{Object: g.slice(s, endpoints, *made)})
			*made++
		case len(endpoints) == 0 && (filled || i > 0):
			out = append(out, reconcile.Delete{Object: g.slices[i]})
		default:
			have := g.slices[i]
			c := have.DeepCopy()
			c.Endpoints, c.Ports, c.Labels = endpoints, g.ports, sliceLabels(s.Service)
			if !equality.Semantic.DeepEqual(c, have) {
				out = append(out, reconcile.Update{Object: c})
			}
		}
	}
	return out
}

func (g *group) slice(s *State, endpoints []discoveryv1.Endpoint, n int) *discoveryv1.EndpointSlice {
	svc := s.Service
	base := svc.Name + "-"
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: svc.Namespace, GenerateName: base, Name: naming.Generated(base, svc.UID, s.Now, n),
			Labels:          sliceLabels(svc),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(svc, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		AddressType: g.family, Endpoints: endpoints, Ports: g.ports,
	}
}

func sliceLabels(svc *corev1.Service) map[string]string {
	l := maps.Clone(svc.Labels)
	if l == nil {
		l = map[string]string{}
	}
	delete(l, corev1.IsHeadlessService)
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		l[corev1.IsHeadlessService] = ""
	}
	l[discoveryv1.LabelServiceName] = svc.Name
	l[discoveryv1.LabelManagedBy] = ManagedBy
	return l
}
