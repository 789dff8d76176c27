// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA1019 Endpoints are deprecated upstream, and still served and mirrored

package mirroring

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

func TestSlicesSayWhatEndpointsDo(t *testing.T) {
	subset := func(ips ...string) corev1.EndpointSubset {
		s := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}}
		for _, ip := range ips {
			s.Addresses = append(s.Addresses, corev1.EndpointAddress{IP: ip})
		}
		return s
	}
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db", Labels: map[string]string{"a": "b"}}}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db"}}
	w := reconciletest.New(t.Context(), func() time.Time { return time.Unix(1_000_000, 0) }, kinds.Object(svc))
	step := func(rule, want string) {
		t.Helper()
		reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
		var got []string
		for x := range cache.List[discoveryv1.EndpointSlice](w.Cache.Snapshot(), "default") {
			text := string(x.AddressType)
			for _, p := range x.Endpoints {
				text += fmt.Sprintf(" %s=%v", p.Addresses[0], *p.Conditions.Ready)
			}
			got = append(got, text)
			if x.Labels["a"] != "b" || x.Labels["kubernetes.io/service-name"] != "db" || *x.Ports[0].Port != 80 {
				t.Errorf("%s: %+v", rule, x)
			}
		}
		if text := strings.Join(got, "; "); text != want {
			t.Errorf("%s: %q, want %q", rule, text, want)
		}
	}
	put := func(subsets ...corev1.EndpointSubset) {
		e = e.DeepCopy()
		e.Subsets = subsets
		w.Put(e)
	}
	put(subset("10.0.0.1"))
	step("made", "IPv4 10.0.0.1=true")
	put(func() corev1.EndpointSubset {
		s := subset("10.0.0.2")
		s.NotReadyAddresses = []corev1.EndpointAddress{{IP: "10.0.0.3"}}
		return s
	}())
	step("changed", "IPv4 10.0.0.2=true 10.0.0.3=false")
	put()
	step("emptied", "")
	put(subset("fd00::1"))
	step("another family", "IPv6 fd00::1=true")
	e.Labels = map[string]string{"a": "b", discoveryv1.LabelSkipMirror: "true"}
	put(subset("fd00::1"))
	step("not wanted", "")
	e.Labels = map[string]string{"a": "b"}
	put(subset("10.0.0.1"))
	step("wanted again", "IPv4 10.0.0.1=true")
	svc = svc.DeepCopy()
	svc.Spec.Selector = map[string]string{"app": "db"}
	w.Put(svc)
	step("made from pods now", "")
}
