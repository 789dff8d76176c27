// SPDX-License-Identifier: Apache-2.0

package endpointslice

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

func service(edit ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "svc"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web"}, ClusterIP: "10.43.0.5", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}
	for _, e := range edit {
		e(s)
	}
	return s
}

func pod(i int, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("p%04d", i), UID: types.UID(fmt.Sprint("u", i)), Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.42.%d.%d", i/200, i%200+1),
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func unready(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func ending(p *corev1.Pod) {
	now := metav1.NewTime(time.Unix(1, 0))
	p.DeletionTimestamp = &now
	p.Finalizers = []string{"x/y"}
}

func settle(t *testing.T, objects ...kinds.Object) *reconciletest.World {
	w := reconciletest.New(t.Context(), time.Now, objects...)
	reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
	return w
}

// text writes the slices down: ports, then each address with r(eady) s(erving) t(erminating).
func text(w *reconciletest.World) string {
	var out []string
	for e := range cache.List[discoveryv1.EndpointSlice](w.Cache.Snapshot(), "default") {
		line := string(e.AddressType)
		for _, p := range e.Ports {
			line += fmt.Sprintf(" %s:%d", *p.Name, *p.Port)
		}
		for _, x := range e.Endpoints {
			line += " " + x.Addresses[0] + " "
			for _, c := range []struct {
				is   *bool
				flag string
			}{{x.Conditions.Ready, "r"}, {x.Conditions.Serving, "s"}, {x.Conditions.Terminating, "t"}} {
				if *c.is {
					line += c.flag
				}
			}
			if x.Hostname != nil {
				line += " " + *x.Hostname
			}
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func TestEndpoints(t *testing.T) {
	for _, x := range []struct {
		rule    string
		objects []kinds.Object
		want    string
	}{
		{"a ready pod", []kinds.Object{service(), pod(1)}, "IPv4 http:8080 10.42.0.2 rs"},
		{"no pod leaves an empty slice", []kinds.Object{service()}, "IPv4"},
		{"not ready", []kinds.Object{service(), pod(1, unready)}, "IPv4 http:8080 10.42.0.2 "},
		{"ending but still serving", []kinds.Object{service(), pod(1, ending)}, "IPv4 http:8080 10.42.0.2 st"},
		{"published although not ready", []kinds.Object{service(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }), pod(1, unready)}, "IPv4 http:8080 10.42.0.2 rs"},
		{"ended pods and those without an address are left out", []kinds.Object{service(), pod(1, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
			pod(2, func(p *corev1.Pod) { p.Status.PodIP = "" })}, "IPv4"},
		{"other labels", []kinds.Object{service(), pod(1, func(p *corev1.Pod) { p.Labels = map[string]string{"app": "db"} })}, "IPv4"},
		{"a named port may differ by pod", []kinds.Object{service(), pod(1), pod(2, func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].ContainerPort = 9090 })},
			"IPv4 http:8080 10.42.0.2 rs; IPv4 http:9090 10.42.0.3 rs"},
		{"a pod without the named port has no port", []kinds.Object{service(), pod(1, func(p *corev1.Pod) { p.Spec.Containers[0].Ports = nil })}, "IPv4 10.42.0.2 rs"},
		{"a target port of zero is the port itself", []kinds.Object{service(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.IntOrString{} }), pod(1)}, "IPv4 http:80 10.42.0.2 rs"},
		{"host names of a headless service's own", []kinds.Object{service(func(s *corev1.Service) { s.Spec.ClusterIP = "None" }),
			pod(1, func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "one", "web" }), pod(2, func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "two", "other" })},
			"IPv4 http:8080 10.42.0.2 rs one 10.42.0.3 rs"},
		{"two families", []kinds.Object{service(func(s *corev1.Service) { s.Spec.IPFamilies = append(s.Spec.IPFamilies, corev1.IPv6Protocol) }),
			pod(1, func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "10.42.0.2"}, {IP: "fd00::2"}} })},
			"IPv4 http:8080 10.42.0.2 rs; IPv6 http:8080 fd00::2 rs"},
		{"without a selector people's slices are left alone", []kinds.Object{service(func(s *corev1.Service) { s.Spec.Selector = nil }), pod(1),
			&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "mine", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}, AddressType: "IPv4"}}, "IPv4"},
		{"an external name has none", []kinds.Object{service(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), pod(1)}, ""},
	} {
		t.Run(x.rule, func(t *testing.T) {
			if got := text(settle(t, x.objects...)); got != x.want {
				t.Errorf("slices %q, want %q", got, x.want)
			}
		})
	}
}

func TestLabelsSayWhoseAndHeadless(t *testing.T) {
	w := settle(t, service(func(s *corev1.Service) { s.Spec.ClusterIP = "None"; s.Labels = map[string]string{"team": "x"} }), pod(1))
	for e := range cache.List[discoveryv1.EndpointSlice](w.Cache.Snapshot(), "") {
		l := e.Labels
		if l[discoveryv1.LabelServiceName] != "web" || l[discoveryv1.LabelManagedBy] != ManagedBy || l["team"] != "x" || len(l) != 4 {
			t.Errorf("labels %v", l)
		}
		if _, ok := l[corev1.IsHeadlessService]; !ok || e.OwnerReferences[0].UID != "svc" {
			t.Errorf("labels %v, owners %v", l, e.OwnerReferences)
		}
	}
}

func TestASliceHasAtMostAHundredAndOneChangeRewritesOne(t *testing.T) {
	objects := []kinds.Object{service()}
	for i := range 250 {
		objects = append(objects, pod(i))
	}
	w := settle(t, objects...)
	if n := w.Cache.Snapshot().Len(kinds.For[discoveryv1.EndpointSlice]()); n != 3 {
		t.Fatalf("%d slices", n)
	}
	w.Put(pod(7, unready))
	key := reconcile.Key{Namespace: "default", Name: "web"}
	plan, _ := Controller().Explain(w.Cache.Snapshot(), key, time.Now())
	if got := plan.String(); strings.Count(got, "update") != 1 || strings.Contains(got, "create") {
		t.Errorf("plan %s", got)
	}
}

func TestItConvergesToAllPodsOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		w := reconciletest.New(ctx, time.Now, service())
		for range 3 {
			for i := range rapid.IntRange(0, 230).Draw(rt, "pods") {
				if rapid.Bool().Draw(rt, "there") {
					w.Put(pod(i))
				} else if _, ok := cache.Get[corev1.Pod](w.Cache.Snapshot(), "default", pod(i).Name); ok {
					w.Remove(pod(i))
				}
			}
			reconciletest.Converges(rt, w, reconciletest.Check{}, Controller())
			seen := map[string]bool{}
			for e := range cache.List[discoveryv1.EndpointSlice](w.Cache.Snapshot(), "default") {
				if len(e.Endpoints) > perSlice {
					rt.Fatalf("%d endpoints in a slice", len(e.Endpoints))
				}
				for _, x := range e.Endpoints {
					if seen[x.TargetRef.Name] {
						rt.Fatalf("%s twice", x.TargetRef.Name)
					}
					seen[x.TargetRef.Name] = true
				}
			}
			if n := w.Cache.Snapshot().Len(kinds.For[corev1.Pod]()); n != len(seen) {
				rt.Fatalf("%d endpoints of %d pods", len(seen), n)
			}
		}
	})
}
