// SPDX-License-Identifier: Apache-2.0

package nodelife

import (
	"fmt"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

var start = time.Unix(1_000_000, 0)

func node() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", CreationTimestamp: metav1.NewTime(start)},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.NewTime(start)},
		}},
	}
}

func lease(at time.Time) *coordinationv1.Lease {
	t := metav1.NewMicroTime(at)
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-node-lease", Name: "n"}, Spec: coordinationv1.LeaseSpec{RenewTime: &t}}
}

func pod(name string, tolerations ...corev1.Toleration) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.PodSpec{NodeName: "n", Tolerations: tolerations},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
}

func seconds(n int64) corev1.Toleration {
	return corev1.Toleration{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &n}
}

func text(s *cache.Snapshot) string {
	n, _ := cache.Get[corev1.Node](s, "", "n")
	var out []string
	for _, t := range n.Spec.Taints {
		out = append(out, strings.TrimPrefix(t.Key, "node.kubernetes.io/")+":"+string(t.Effect))
	}
	return fmt.Sprintf("Ready=%s taints=%s", conditionOf(n, corev1.NodeReady).Status, strings.Join(out, ","))
}

func TestASilentNodeAndItsReturn(t *testing.T) {
	now := start
	w := reconciletest.New(t.Context(), func() time.Time { return now }, node(), lease(start),
		pod("default", seconds(300)), pod("daemon", corev1.Toleration{Operator: corev1.TolerationOpExists}), pod("fragile"))
	c := Controller()
	settle := func(what, want string) {
		t.Helper()
		reconciletest.Converges(t, w, reconciletest.Check{Settle: func(w *reconciletest.World) {
			for p := range cache.List[corev1.Pod](w.Cache.Snapshot(), "") {
				if p.DeletionTimestamp != nil {
					w.Remove(p)
				}
			}
		}}, c)
		if got := text(w.Cache.Snapshot()); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	there := func(want string) {
		t.Helper()
		var got []string
		for p := range cache.List[corev1.Pod](w.Cache.Snapshot(), "") {
			got = append(got, p.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("pods %v, want %s", got, want)
		}
	}
	settle("at first", "Ready=True taints=")
	now = start.Add(39 * time.Second)
	settle("quiet for 39 s", "Ready=True taints=")
	plan, _ := c.Explain(w.Cache.Snapshot(), reconcile.Key{Name: "n"}, now)
	if plan.Again != 2*time.Second {
		t.Errorf("looks again in %v", plan.Again)
	}
	now = start.Add(41 * time.Second)
	settle("silent for 41 s", "Ready=Unknown taints=unreachable:NoSchedule,unreachable:NoExecute")
	there("daemon default")
	for p := range cache.List[corev1.Pod](w.Cache.Snapshot(), "") {
		if p.Status.Conditions[0].Status != corev1.ConditionFalse {
			t.Errorf("pod %s is still ready", p.Name)
		}
	}
	now = now.Add(299 * time.Second)
	settle("five minutes later", "Ready=Unknown taints=unreachable:NoSchedule,unreachable:NoExecute")
	there("daemon default")
	now = now.Add(2 * time.Second)
	settle("and a bit", "Ready=Unknown taints=unreachable:NoSchedule,unreachable:NoExecute")
	there("daemon")
	n := node()
	n.UID = "uid-1"
	back, _ := cache.Get[corev1.Node](w.Cache.Snapshot(), "", "n")
	n = back.DeepCopy()
	conditionOf(n, corev1.NodeReady).Status = corev1.ConditionTrue
	w.Put(n)
	w.Put(lease(now))
	settle("back", "Ready=True taints=")
}

func TestSilenceBeforeItListenedMeansNothing(t *testing.T) {
	now := start.Add(time.Hour)
	w := reconciletest.New(t.Context(), func() time.Time { return now }, node(), lease(start))
	plan, _ := Controller().Explain(w.Cache.Snapshot(), reconcile.Key{Name: "n"}, now)
	if !plan.Empty() || plan.Again != grace+time.Second {
		t.Errorf("plan %s", plan)
	}
}

func TestTaintsFollowConditions(t *testing.T) {
	for _, x := range []struct {
		rule string
		edit func(*corev1.Node)
		want string
	}{
		{"not ready", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }, "Ready=False taints=not-ready:NoSchedule,not-ready:NoExecute"},
		{"cordoned", func(n *corev1.Node) { n.Spec.Unschedulable = true }, "Ready=True taints=unschedulable:NoSchedule"},
		{"pressure", func(n *corev1.Node) {
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue})
		}, "Ready=True taints=disk-pressure:NoSchedule"},
		{"others' taints stay, stale ones of ours go", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "mine", Effect: corev1.TaintEffectNoSchedule}, {Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}}
		}, "Ready=True taints=mine:NoSchedule"},
	} {
		t.Run(x.rule, func(t *testing.T) {
			n := node()
			x.edit(n)
			w := reconciletest.New(t.Context(), func() time.Time { return start }, []kinds.Object{n, lease(start)}...)
			reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
			if got := text(w.Cache.Snapshot()); got != x.want {
				t.Errorf("%s, want %s", got, x.want)
			}
		})
	}
}
