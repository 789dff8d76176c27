// SPDX-License-Identifier: Apache-2.0

package disruption

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

var start = time.Unix(1_000_000, 0)

func TestAllowed(t *testing.T) {
	n := func(i int32) *intstr.IntOrString { v := intstr.FromInt32(i); return &v }
	share := func(s string) *intstr.IntOrString { v := intstr.FromString(s); return &v }
	for _, x := range []struct {
		rule           string
		spec           policyv1.PodDisruptionBudgetSpec
		ready, unready int
		evicted        time.Duration // of one that is ready; 0: none
		want           string        // allowed: healthy of desired, expected
	}{
		{"at least", policyv1.PodDisruptionBudgetSpec{MinAvailable: n(2)}, 3, 0, 0, "1: 3 of 2, 3"},
		{"as many as there must be", policyv1.PodDisruptionBudgetSpec{MinAvailable: n(3)}, 3, 0, 0, "0: 3 of 3, 3"},
		{"at least a share of what is wanted", policyv1.PodDisruptionBudgetSpec{MinAvailable: share("50%")}, 4, 0, 0, "1: 4 of 3, 5"},
		{"at most", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: n(2)}, 4, 1, 0, "1: 4 of 3, 5"},
		{"at most a share", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: share("30%")}, 5, 0, 0, "2: 5 of 3, 5"},
		{"one that was evicted does not count", policyv1.PodDisruptionBudgetSpec{MinAvailable: n(2)}, 3, 0, time.Second, "0: 2 of 2, 3"},
		{"unless it stayed", policyv1.PodDisruptionBudgetSpec{MinAvailable: n(2)}, 3, 0, time.Hour, "1: 3 of 2, 3"},
		{"no pods", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: n(1)}, 0, 0, 0, "0: 0 of 0, 0"},
	} {
		t.Run(x.rule, func(t *testing.T) {
			b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "b"}, Spec: x.spec}
			b.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
			if x.evicted > 0 {
				b.Status.DisruptedPods = map[string]metav1.Time{"p0": metav1.NewTime(start.Add(-x.evicted))}
			}
			rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "web"}, Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(5))}}
			objects := []kinds.Object{b, rs}
			for i := range x.ready + x.unready {
				p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("p", i), Labels: map[string]string{"app": "web"},
					OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}}}
				if i < x.ready {
					p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
				}
				objects = append(objects, p)
			}
			w := reconciletest.New(t.Context(), func() time.Time { return start }, objects...)
			reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
			got, _ := cache.Get[policyv1.PodDisruptionBudget](w.Cache.Snapshot(), "default", "b")
			st := got.Status
			if text := fmt.Sprintf("%d: %d of %d, %d", st.DisruptionsAllowed, st.CurrentHealthy, st.DesiredHealthy, st.ExpectedPods); text != x.want {
				t.Errorf("got %s, want %s", text, x.want)
			}
			if c := st.Conditions[0]; (c.Status == metav1.ConditionTrue) != (st.DisruptionsAllowed > 0) {
				t.Errorf("condition %+v", c)
			}
		})
	}
}
