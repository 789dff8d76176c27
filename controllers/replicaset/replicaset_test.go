// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/knarr/knarr/controllers/pods"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
	"github.com/knarr/knarr/state/reconcile"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

var start = time.Unix(1_000_000, 0)

func set(n int32) *appsv1.ReplicaSet {
	labels := map[string]string{"app": "web"}
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "web-uid", Generation: 1},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}},
		},
	}
}

func pod(name string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "web"}, CreationTimestamp: metav1.NewTime(start)},
		Spec:       corev1.PodSpec{NodeName: "n"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	p.OwnerReferences = []metav1.OwnerReference{(&State{ReplicaSet: set(0)}).ownerRef()}
	for _, e := range edit {
		e(p)
	}
	return p
}

func readySinceEdit(t time.Time) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(t)}}
	}
}

var ready = readySinceEdit(start)

func TestVictims(t *testing.T) {
	for _, x := range []struct {
		rule string
		pods []*corev1.Pod // the first is to go first, and so on
	}{
		{"without a node first", []*corev1.Pod{pod("z", func(p *corev1.Pod) { p.Spec.NodeName = "" }), pod("a")}},
		{"pending before unknown before running", []*corev1.Pod{
			pod("z", func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }), pod("y", func(p *corev1.Pod) { p.Status.Phase = corev1.PodUnknown }), pod("a")}},
		{"not ready before ready", []*corev1.Pod{pod("z"), pod("a", ready)}},
		{"cheaper first", []*corev1.Pod{pod("z", ready, func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: "-5"} }), pod("a", ready)}},
		{"from the fuller node", []*corev1.Pod{pod("y", ready), pod("z", ready), pod("a", ready, func(p *corev1.Pod) { p.Spec.NodeName = "m" })}},
		{"ready for less long", []*corev1.Pod{pod("z", readySinceEdit(start.Add(time.Minute))), pod("a", ready)}},
		{"restarted more", []*corev1.Pod{pod("z", ready, func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 3}} }), pod("a", ready)}},
		{"younger", []*corev1.Pod{pod("z", ready, func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(start.Add(time.Hour)) }), pod("a", ready)}},
	} {
		t.Run(x.rule, func(t *testing.T) {
			shuffled := slices.Clone(x.pods)
			slices.Reverse(shuffled)
			for n := range x.pods {
				got := victims(shuffled, State{}, n+1)
				if len(got) != n+1 || got[n].Name != x.pods[n].Name {
					t.Errorf("victim %d is %s, want %s", n, got[n].Name, x.pods[n].Name)
				}
			}
		})
	}
}

func TestDecide(t *testing.T) {
	now := metav1.NewTime(start)
	settled := func(rs *appsv1.ReplicaSet, n int32) *appsv1.ReplicaSet {
		rs.Status = appsv1.ReplicaSetStatus{Replicas: n, FullyLabeledReplicas: n, ReadyReplicas: n, AvailableReplicas: n, ObservedGeneration: 1}
		return rs
	}
	for _, x := range []struct {
		rule string
		s    State
		want string // the start of each action, names cut off
	}{
		{"at rest", State{ReplicaSet: settled(set(1), 1), Owned: []*corev1.Pod{pod("a", ready)}}, ""},
		{"one missing", State{ReplicaSet: settled(set(2), 1), Owned: []*corev1.Pod{pod("a", ready)}}, "{create Pod}; event SuccessfulCreate"},
		{"pods that end do not count", State{ReplicaSet: settled(set(2), 1), Owned: []*corev1.Pod{pod("a", ready), pod("b", func(p *corev1.Pod) { p.DeletionTimestamp = &now }),
			pod("c", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })}}, "{create Pod}; event SuccessfulCreate"},
		{"one too many", State{ReplicaSet: settled(set(1), 2), Owned: []*corev1.Pod{pod("a", ready), pod("b", ready)}}, "{delete Pod}; event SuccessfulDelete"},
		{"counts are written first", State{ReplicaSet: set(2), Owned: []*corev1.Pod{pod("a", ready)}}, "status ReplicaSet; {create Pod}; event SuccessfulCreate"},
		{"being deleted, nothing is made", State{ReplicaSet: func() *appsv1.ReplicaSet { rs := settled(set(2), 0); rs.DeletionTimestamp = &now; return rs }()}, ""},
		{"an orphan is adopted", State{ReplicaSet: settled(set(1), 0), Orphans: []*corev1.Pod{pod("a")}}, "update Pod"},
		{"a stranger is released", State{ReplicaSet: settled(set(1), 1), Owned: []*corev1.Pod{pod("a", func(p *corev1.Pod) { p.Labels = nil })}}, "update Pod"},
	} {
		t.Run(x.rule, func(t *testing.T) {
			x.s.Now = start
			if got := short(Decide(x.s).String()); got != x.want {
				t.Errorf("plan %q, want %q", got, x.want)
			}
		})
	}
}

// short keeps the verb and the kind of each action.
func short(plan string) string {
	var out []string
	for _, a := range strings.Split(plan, "; ") {
		open, closing := "", ""
		if strings.HasPrefix(a, "{") {
			open, a = "{", a[1:]
		}
		if strings.HasSuffix(a, "}") {
			closing, a = "}", a[:len(a)-1]
		}
		words := strings.Fields(a)
		out = append(out, open+strings.Join(words[:min(2, len(words))], " ")+closing)
	}
	return strings.Join(out, "; ")
}

func TestMinReadySecondsIsWaitedFor(t *testing.T) {
	rs := set(1)
	rs.Spec.MinReadySeconds = 10
	p := Decide(State{ReplicaSet: rs, Owned: []*corev1.Pod{pod("a", ready)}, Now: start.Add(3 * time.Second)})
	st := p.Actions[0].(reconcile.UpdateStatus).Object.(*appsv1.ReplicaSet).Status
	if p.Again != 7*time.Second || st.ReadyReplicas != 1 || st.AvailableReplicas != 0 {
		t.Errorf("again in %v, status %+v", p.Again, st)
	}
}

type told []string

func (h *told) Event(_ kinds.Object, _, reason, message string) { *h = append(*h, reason+": "+message) }

func TestAFailedCreationIsTold(t *testing.T) {
	w := reconciletest.New(t.Context(), func() time.Time { return start }, set(1))
	w.Refuse(func(r client.Request) error {
		if r.Verb == client.Create {
			return errs.New(errs.Denied, "exceeded quota")
		}
		return nil
	})
	plan, _ := Controller().Explain(w.Cache.Snapshot(), reconcile.Key{Namespace: "default", Name: "web"}, start)
	var h told
	err := reconcile.Apply(t.Context(), w, &h, "test", plan)
	if !errors.Is(err, errs.Denied) || len(h) != 1 || h[0] != "FailedCreate: Error creating: exceeded quota" {
		t.Errorf("events %q, error %v", h, err)
	}
	for range 2 { // the counts were written before, so it takes two passes
		plan, _ = Controller().Explain(w.Cache.Snapshot(), reconcile.Key{Namespace: "default", Name: "web"}, start)
		_ = reconcile.Apply(t.Context(), w, &h, "test", plan)
	}
	rs, _ := cache.Get[appsv1.ReplicaSet](w.Cache.Snapshot(), "default", "web")
	if c := rs.Status.Conditions; len(c) != 1 || c[0].Reason != "FailedCreate" || c[0].Message != "exceeded quota" || c[0].Type != "ReplicaFailure" {
		t.Errorf("conditions %+v", c)
	}
	w.Refuse(nil)
	reconciletest.Converges(t, w, reconciletest.Check{}, Controller())
	rs, _ = cache.Get[appsv1.ReplicaSet](w.Cache.Snapshot(), "default", "web")
	if len(rs.Status.Conditions) > 0 || rs.Status.Replicas != 1 {
		t.Errorf("status %+v", rs.Status)
	}
}

func TestAReplicationControllerIsKeptAsAReplicaSet(t *testing.T) {
	like := set(3)
	rc := &corev1.ReplicationController{
		ObjectMeta: like.ObjectMeta,
		Spec:       corev1.ReplicationControllerSpec{Replicas: like.Spec.Replicas, Selector: like.Spec.Selector.MatchLabels, Template: &like.Spec.Template},
	}
	stray := pod("stray", ready)
	stray.OwnerReferences = nil
	w := reconciletest.New(t.Context(), func() time.Time { return start }, rc, stray)
	reconciletest.Converges(t, w, reconciletest.Check{}, ReplicationController())
	n := 0
	for p := range cache.Owned[corev1.Pod](w.Cache.Snapshot(), "web-uid") {
		if ref := metav1.GetControllerOf(p); ref.Kind == "ReplicationController" && ref.APIVersion == "v1" {
			n++
		}
	}
	got, _ := cache.Get[corev1.ReplicationController](w.Cache.Snapshot(), "default", "web")
	if n != 3 || got.Status.Replicas != 3 || got.Status.ReadyReplicas != 1 {
		t.Errorf("%d pods, status %+v", n, got.Status)
	}
}

func TestItConverges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		n := rapid.Int32Range(0, 6).Draw(rt, "replicas")
		objects := []kinds.Object{set(n)}
		for i := range rapid.IntRange(0, 9).Draw(rt, "pods") {
			p := pod(fmt.Sprint("p", i), ready)
			switch rapid.IntRange(0, 4).Draw(rt, "pod") {
			case 0:
				p.OwnerReferences = nil // an orphan
			case 1:
				p.Labels = nil // a stranger that is ours
			case 2:
				p.Status.Phase = corev1.PodSucceeded
			}
			objects = append(objects, p)
		}
		w := reconciletest.New(ctx, func() time.Time { return start }, objects...)
		reconciletest.Converges(rt, w, reconciletest.Check{Settle: func(w *reconciletest.World) {
			for p := range cache.List[corev1.Pod](w.Cache.Snapshot(), "") {
				if p.DeletionTimestamp != nil {
					w.Remove(p)
				}
			}
		}}, Controller())
		active := int32(0)
		for p := range cache.Owned[corev1.Pod](w.Cache.Snapshot(), "web-uid") {
			if pods.Active(p) {
				active++
			}
		}
		rs, _ := cache.Get[appsv1.ReplicaSet](w.Cache.Snapshot(), "default", "web")
		if active != n || rs.Status.Replicas != n {
			rt.Fatalf("%d pods of %d, status %+v", active, n, rs.Status)
		}
	})
}
