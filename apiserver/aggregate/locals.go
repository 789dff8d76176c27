// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
)

// Every group and version that this server answers is registered too, as clients expect: those of the program once and for
// all, those of definitions as long as they are served. Whoever names a Service in one of them takes it over.

// managed is the label of what is registered here, and says for how long.
const (
	managed  = "kube-aggregator.kubernetes.io/automanaged"
	always   = "onstart" // part of the program
	asServed = "true"    // as long as it is defined
)

// groupPriorities are upstream's.
var groupPriorities = []struct {
	group    string
	priority int32
}{
	{"", 18000}, {"apps", 17800}, {"events.k8s.io", 17750}, {"authentication.k8s.io", 17700}, {"authorization.k8s.io", 17600},
	{"autoscaling", 17500}, {"batch", 17400}, {"certificates.k8s.io", 17300}, {"networking.k8s.io", 17200}, {"extensions", 17150},
	{"policy", 17100}, {"rbac.authorization.k8s.io", 17000}, {"storage.k8s.io", 16800}, {"apiextensions.k8s.io", 16700},
	{"admissionregistration.k8s.io", 16700}, {"scheduling.k8s.io", 16600}, {"coordination.k8s.io", 16500}, {"node.k8s.io", 16300},
	{"discovery.k8s.io", 16200}, {"flowcontrol.apiserver.k8s.io", 16100}, {"internal.apiserver.k8s.io", 16000}, {"resource.k8s.io", 15900},
}

// Local is all that a decision about one group and version looks at.
type Local struct {
	GV         schema.GroupVersion
	Program    bool // it is of the program
	Defined    bool // a definition serves it
	APIService *apiregistrationv1.APIService
	Now        time.Time
}

// Locals is the controller that registers them.
func Locals() reconcile.Controller {
	// The namespace is there from the beginning: with it come those of the program, even if no APIService exists.
	first := func(_ *cache.Snapshot, ns *corev1.Namespace) []reconcile.Key {
		if ns.Name != metav1.NamespaceSystem || ns.DeletionTimestamp != nil {
			return nil
		}
		var keys []reconcile.Key
		for gv := range program() {
			keys = append(keys, reconcile.Key{Name: nameOf(gv)})
		}
		return keys
	}
	defined := func(_ *cache.Snapshot, d *apiextensionsv1.CustomResourceDefinition) []reconcile.Key {
		var keys []reconcile.Key
		for _, v := range d.Spec.Versions {
			keys = append(keys, reconcile.Key{Name: nameOf(schema.GroupVersion{Group: d.Spec.Group, Version: v.Name})})
		}
		return keys
	}
	return reconcile.Define("apiservice-registration-controller", []reconcile.Watch{
		reconcile.Mapped(first), reconcile.Mapped(defined), reconcile.Objects[apiregistrationv1.APIService](),
	}, Observe, Decide)
}

// nameOf is how an APIService must be called: v1.apps, and v1. for the group without a name.
func nameOf(gv schema.GroupVersion) string { return gv.Version + "." + gv.Group }

// program is what this server answers without any definition. What registers is not registered itself.
func program() map[schema.GroupVersion]bool {
	out := map[schema.GroupVersion]bool{}
	for _, list := range [][]*kinds.Type{kinds.All, kinds.Virtual} {
		for _, t := range list {
			for i := range t.Served {
				if gv := t.Served[i].GroupVersion(); gv.Group != apiregistrationv1.GroupName {
					out[gv] = true
				}
			}
		}
	}
	return out
}

// Observe gathers the Local that k names.
func Observe(s *cache.Snapshot, k reconcile.Key, now time.Time) (Local, bool) {
	version, group, ok := strings.Cut(k.Name, ".")
	if !ok {
		return Local{}, false
	}
	l := Local{GV: schema.GroupVersion{Group: group, Version: version}, Now: now}
	l.Program = program()[l.GV]
	for d := range cache.List[apiextensionsv1.CustomResourceDefinition](s, "") {
		l.Defined = l.Defined || d.Spec.Group == group && kinds.Established(d) &&
			slices.ContainsFunc(d.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Name == version && v.Served })
	}
	l.APIService, _ = cache.Get[apiregistrationv1.APIService](s, "", k.Name)
	return l, true
}

// Decide says what to do for one group and version.
func Decide(l Local) reconcile.Plan {
	a := l.APIService
	switch {
	case a == nil && (l.Program || l.Defined):
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Create{Object: l.register()}}, Why: "it is served here"}
	case a == nil, a.Spec.Service != nil, a.DeletionTimestamp != nil:
		return reconcile.Plan{}
	case a.Labels[managed] == asServed && !l.Defined:
		return reconcile.Plan{Actions: []reconcile.Action{reconcile.Delete{Object: a}}, Why: "nothing defines it any more"}
	}
	next := with(a, apiregistrationv1.APIServiceCondition{
		Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue, Reason: "Local", Message: "Local APIServices are always available",
	}, l.Now)
	if equality.Semantic.DeepEqual(next.Status, a.Status) {
		return reconcile.Plan{}
	}
	return reconcile.Plan{Status: next, Why: "it is answered here"}
}

func (l Local) register() *apiregistrationv1.APIService {
	a := &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: nameOf(l.GV), Labels: map[string]string{managed: asServed}},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: l.GV.Group, Version: l.GV.Version, GroupPriorityMinimum: 1000, VersionPriority: 100,
		},
	}
	if !l.Program {
		return a
	}
	a.Labels[managed] = always
	a.Spec.VersionPriority = versionPriority(l.GV)
	for _, g := range groupPriorities {
		if g.group == l.GV.Group {
			a.Spec.GroupPriorityMinimum = g.priority
		}
	}
	return a
}

// versionPriority: stable before beta before alpha; of the stable the newest.
func versionPriority(gv schema.GroupVersion) int32 {
	switch v := gv.Version; {
	case gv == schema.GroupVersion{Version: "v1"}, strings.Contains(v, "alpha"):
		return 1
	case strings.Contains(v, "beta"):
		return 9
	case v == "v1":
		return 15
	}
	return 30
}
