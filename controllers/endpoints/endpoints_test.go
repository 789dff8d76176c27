// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA1019 Endpoints are deprecated upstream, and still served and made

package endpoints

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

func service(edit ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "svc"},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromString("http")}}},
	}
	for _, e := range edit {
		e(s)
	}
	return s
}

func pod(name, ip string, port int32, ready corev1.ConditionStatus) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: port}}}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
	}
}

func text(s *cache.Snapshot) string {
	e, ok := cache.Get[corev1.Endpoints](s, "default", "web")
	if !ok {
		return "none"
	}
	var out []string
	for _, sub := range e.Subsets {
		line := ""
		for _, p := range sub.Ports {
			line += fmt.Sprintf("%s:%d", p.Name, p.Port)
		}
		for _, a := range sub.Addresses {
			line += " " + a.IP
		}
		for _, a := range sub.NotReadyAddresses {
			line += " (" + a.IP + ")"
		}
		out = append(out, line)
	}
	return strings.Join(out, "; ")
}

func TestEndpoints(t *testing.T) {
	yes, no := corev1.ConditionTrue, corev1.ConditionFalse
	people := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.9"}}}}}
	ours := people.DeepCopy()
	ours.Labels = map[string]string{managedByLabel: managedBy}
	for _, x := range []struct {
		rule    string
		objects []kinds.Object
		want    string
	}{
		{"ready and not, by address", []kinds.Object{service(), pod("a", "10.0.0.3", 80, yes), pod("b", "10.0.0.2", 80, yes), pod("c", "10.0.0.1", 80, no)}, "http:80 10.0.0.2 10.0.0.3 (10.0.0.1)"},
		{"a subset for each set of ports", []kinds.Object{service(), pod("a", "10.0.0.1", 81, yes), pod("b", "10.0.0.2", 80, yes)}, "http:80 10.0.0.2; http:81 10.0.0.1"},
		{"nobody", []kinds.Object{service()}, ""},
		{"published although not ready", []kinds.Object{service(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }), pod("c", "10.0.0.1", 80, no)}, "http:80 10.0.0.1"},
		{"without a selector people's own are left alone", []kinds.Object{service(func(s *corev1.Service) { s.Spec.Selector = nil }), people}, " 192.0.2.9"},
		{"without a service ours end", []kinds.Object{ours}, "none"},
		{"without a service people's stay", []kinds.Object{people}, " 192.0.2.9"},
	} {
		t.Run(x.rule, func(t *testing.T) {
			w := reconciletest.New(t.Context(), time.Now, x.objects...)
			reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
			if got := text(w.Cache.Snapshot()); got != x.want {
				t.Errorf("endpoints %q, want %q", got, x.want)
			}
		})
	}
}
