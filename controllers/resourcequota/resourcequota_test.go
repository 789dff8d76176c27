// SPDX-License-Identifier: Apache-2.0

package resourcequota

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

func pod(name, cpu string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	if cpu != "" {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func quota(hard map[corev1.ResourceName]string, scopes ...corev1.ResourceQuotaScope) *corev1.ResourceQuota {
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{}, Scopes: scopes}}
	for k, v := range hard {
		q.Spec.Hard[k] = resource.MustParse(v)
	}
	return q
}

func TestDecideCounts(t *testing.T) {
	now := time.Unix(1000, 0)
	done := func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }
	late := func(p *corev1.Pod) {
		at, grace := metav1.NewTime(now.Add(-time.Minute)), int64(1)
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &at, &grace
	}
	pods := []kinds.Object{pod("a", "1"), pod("b", "500m"), pod("c", ""), pod("d", "4", done), pod("e", "4", late)}
	for _, x := range []struct {
		rule string
		q    *corev1.ResourceQuota
		o    []kinds.Object
		want map[corev1.ResourceName]string
	}{
		{"pods that live", quota(map[corev1.ResourceName]string{"pods": "9", "requests.cpu": "9", "count/pods": "9"}), pods,
			map[corev1.ResourceName]string{"pods": "3", "requests.cpu": "1500m", "count/pods": "5"}},
		{"only those without requests", quota(map[corev1.ResourceName]string{"pods": "9"}, corev1.ResourceQuotaScopeBestEffort), pods,
			map[corev1.ResourceName]string{"pods": "1"}},
		{"services with node ports", quota(map[corev1.ResourceName]string{"services": "9", "services.nodeports": "9"}), []kinds.Object{
			&corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{}, {}}}}, &corev1.Service{},
		}, map[corev1.ResourceName]string{"services": "2", "services.nodeports": "2"}},
		{"nothing is zero, not unknown", quota(map[corev1.ResourceName]string{"secrets": "1"}), nil, map[corev1.ResourceName]string{"secrets": "0"}},
	} {
		plan := Decide(State{Quota: x.q, Objects: x.o, Now: now})
		if plan.Status == nil {
			t.Errorf("%s: nothing is written", x.rule)
			continue
		}
		used := plan.Status.(*corev1.ResourceQuota).Status.Used
		if len(used) != len(x.want) {
			t.Errorf("%s: %v", x.rule, used)
		}
		for name, want := range x.want {
			if got := used[name]; got.Cmp(resource.MustParse(want)) != 0 {
				t.Errorf("%s: %s is %s, want %s", x.rule, name, got.String(), want)
			}
		}
	}
}

func TestConverges(t *testing.T) {
	w := reconciletest.New(t.Context(), time.Now, quota(map[corev1.ResourceName]string{"pods": "9"}), pod("a", ""), pod("b", ""))
	reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
	q, _ := cache.Get[corev1.ResourceQuota](w.Cache.Snapshot(), "a", "q")
	if got := q.Status.Used[corev1.ResourcePods]; got.Value() != 2 {
		t.Errorf("used: %s", got.String())
	}
}
