// SPDX-License-Identifier: Apache-2.0

package daemonset

import (
	"context"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

var start = time.Unix(1_000_000, 0)

func set(edit ...func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
	labels := map[string]string{"app": "log"}
	d := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "log", UID: "log-uid"},
		Spec: appsv1.DaemonSetSpec{
			Selector:       &metav1.LabelSelector{MatchLabels: labels},
			Template:       corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "one"}}}},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: at(1), MaxSurge: at(0)}},
		},
	}
	for _, e := range edit {
		e(d)
	}
	return d
}

func at(n int) *intstr.IntOrString { v := intstr.FromInt32(int32(n)); return &v }

func node(name string, taints ...corev1.Taint) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"disk": name}}, Spec: corev1.NodeSpec{Taints: taints}}
}

func TestBelongs(t *testing.T) {
	cordoned := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	for _, x := range []struct {
		rule      string
		d         *appsv1.DaemonSet
		n         *corev1.Node
		run, stay bool
	}{
		{"any node", set(), node("a"), true, true},
		{"the selector", set(func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.NodeSelector = map[string]string{"disk": "b"} }), node("a"), false, false},
		{"cordoned all the same", set(), node("a", cordoned), true, true},
		{"a foreign taint keeps out, not off", set(), node("a", corev1.Taint{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}), false, true},
		{"or off", set(), node("a", corev1.Taint{Key: "gpu", Effect: corev1.TaintEffectNoExecute}), false, false},
		{"what is tolerated", set(func(d *appsv1.DaemonSet) {
			d.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
		}), node("a", corev1.Taint{Key: "gpu", Effect: corev1.TaintEffectNoExecute}), true, true},
		{"a named node", set(func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.NodeName = "b" }), node("a"), false, false},
	} {
		if run, stay := belongs(x.d, x.n); run != x.run || stay != x.stay {
			t.Errorf("%s: %v %v", x.rule, run, stay)
		}
	}
}

func TestAPodIsTiedToItsNode(t *testing.T) {
	p := newPod(set(), "b", "h")
	if nodeOf(p) != "b" || p.Labels["controller-revision-hash"] != "h" || len(p.Spec.Tolerations) != 6 {
		t.Errorf("%+v", p)
	}
}

// live plays nodes: pods get their node and become ready, or fail to; deleted ones vanish.
func live(w *reconciletest.World) {
	for p := range cache.List[corev1.Pod](w.Cache.Snapshot(), "") {
		c := p.DeepCopy()
		switch {
		case p.DeletionTimestamp != nil:
			w.Remove(p)
			continue
		case p.Spec.NodeName == "":
			c.Spec.NodeName = nodeOf(p)
		case !pods.Ready(p):
			c.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(start)}}}
		default:
			continue
		}
		w.Put(c)
	}
}

func TestItConverges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		surge, missing := rapid.IntRange(0, 2).Draw(rt, "surge"), 0
		if surge == 0 {
			missing = rapid.IntRange(1, 3).Draw(rt, "unavailable")
		}
		n := rapid.IntRange(1, 5).Draw(rt, "nodes")
		objects := []kinds.Object{set(func(d *appsv1.DaemonSet) {
			d.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxSurge: at(surge), MaxUnavailable: at(missing)}
			d.Spec.RevisionHistoryLimit = new(int32)
		})}
		for i := range n {
			objects = append(objects, node(fmt.Sprint("n", i)))
		}
		w := reconciletest.New(ctx, func() time.Time { return start }, objects...)
		check := reconciletest.Check{Settle: live}
		reconciletest.Converges(rt, w, check, Controller())
		first, _ := cache.Get[appsv1.DaemonSet](w.Cache.Snapshot(), "default", "log")
		check.Invariant = func(s *cache.Snapshot) error {
			ready := 0
			for p := range cache.List[corev1.Pod](s, "") {
				if pods.Ready(p) && p.DeletionTimestamp == nil {
					ready++
				}
			}
			if ready < n-missing || s.Len(kinds.For[corev1.Pod]()) > n+surge {
				return fmt.Errorf("%d ready of %d, %d pods", ready, n, s.Len(kinds.For[corev1.Pod]()))
			}
			return nil
		}
		next := first.DeepCopy()
		next.Spec.Template.Spec.Containers[0].Image = "two"
		next.Generation++
		w.Put(next)
		reconciletest.Converges(rt, w, check, Controller())
		d, _ := cache.Get[appsv1.DaemonSet](w.Cache.Snapshot(), "default", "log")
		if st := d.Status; int(st.UpdatedNumberScheduled) != n || int(st.NumberAvailable) != n || int(st.DesiredNumberScheduled) != n || st.NumberMisscheduled != 0 {
			rt.Fatalf("status %+v", st)
		}
		for r := range cache.List[appsv1.ControllerRevision](w.Cache.Snapshot(), "") {
			if r.Revision != 2 {
				rt.Fatalf("revision %d is left", r.Revision)
			}
		}
	})
}
