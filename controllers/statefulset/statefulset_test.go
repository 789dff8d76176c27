// SPDX-License-Identifier: Apache-2.0

package statefulset

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
	"github.com/knarr/knarr/state/reconcile"
	"github.com/knarr/knarr/state/reconcile/reconciletest"
)

var start = time.Unix(1_000_000, 0)

func set(n int32, edit ...func(*appsv1.StatefulSet)) *appsv1.StatefulSet {
	labels := map[string]string{"app": "db"}
	s := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db", UID: "db-uid"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &n, ServiceName: "dbs", Selector: &metav1.LabelSelector{MatchLabels: labels}, PodManagementPolicy: appsv1.OrderedReadyPodManagement,
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "one"}}}},
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: new(int32)}},
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}},
		},
	}
	for _, e := range edit {
		e(s)
	}
	return s
}

// live plays a node: pods become ready, deleted ones vanish. It says nothing of a pod before it had its turn.
func live(w *reconciletest.World) {
	for p := range cache.List[corev1.Pod](w.Cache.Snapshot(), "") {
		c := p.DeepCopy()
		switch {
		case p.DeletionTimestamp != nil:
			w.Remove(p)
			continue
		case p.Spec.NodeName == "":
			c.Spec.NodeName = "n"
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
		n, m := rapid.Int32Range(0, 4).Draw(rt, "replicas"), rapid.Int32Range(0, 4).Draw(rt, "then")
		part := rapid.Int32Range(0, 3).Draw(rt, "partition")
		ordered := rapid.Bool().Draw(rt, "ordered")
		max := rapid.IntRange(1, 2).Draw(rt, "maxUnavailable")
		from := rapid.Int32Range(0, 1).Draw(rt, "start")
		w := reconciletest.New(ctx, func() time.Time { return start }, kinds.Object(set(n, func(s *appsv1.StatefulSet) {
			if !ordered {
				s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
			}
			v := intstr.FromInt32(int32(max))
			s.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &v
			s.Spec.UpdateStrategy.RollingUpdate.Partition = &part
			s.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: from}
			s.Spec.RevisionHistoryLimit = new(int32)
		})))
		check := reconciletest.Check{Settle: live}
		if ordered {
			check.Invariant = inOrder
		}
		reconciletest.Converges(rt, w, check, Controller())
		got, _ := cache.Get[appsv1.StatefulSet](w.Cache.Snapshot(), "default", "db")
		next := got.DeepCopy()
		next.Spec.Template.Spec.Containers[0].Image = "two"
		next.Spec.Replicas = &m
		w.Put(next)
		reconciletest.Converges(rt, w, reconciletest.Check{Settle: live}, Controller())
		got, _ = cache.Get[appsv1.StatefulSet](w.Cache.Snapshot(), "default", "db")
		want := 0
		for i := from; i < from+m; i++ {
			p, ok := cache.Get[corev1.Pod](w.Cache.Snapshot(), "default", fmt.Sprint("db-", i))
			if !ok {
				rt.Fatalf("pod %d is missing", i)
			}
			image := "two"
			if i < part && (n > 0 || i < 0) {
				image = "one"
			} else {
				want++
			}
			if n > 0 && p.Spec.Containers[0].Image != image {
				rt.Fatalf("pod %d runs %s", i, p.Spec.Containers[0].Image)
			}
		}
		st := got.Status
		if st.Replicas != m || st.ReadyReplicas != m || st.AvailableReplicas != m || n > 0 && int(st.UpdatedReplicas) != want {
			rt.Fatalf("status %+v", st)
		}
		if n > 0 && part == 0 && st.CurrentRevision != st.UpdateRevision {
			rt.Fatalf("status %+v", st)
		}
	})
}

// inOrder: no pod without a ready one before it.
func inOrder(s *cache.Snapshot) error {
	last, ok := "", true
	for p := range cache.List[corev1.Pod](s, "default") {
		if !ok {
			return fmt.Errorf("%s was made before %s was ready", p.Name, last)
		}
		last, ok = p.Name, pods.Ready(p)
	}
	return nil
}

func TestWhatAPodGets(t *testing.T) {
	w := reconciletest.New(t.Context(), func() time.Time { return start }, set(1))
	reconciletest.Converges(t, w, reconciletest.Check{Settle: live}, Controller())
	p, ok := cache.Get[corev1.Pod](w.Cache.Snapshot(), "default", "db-0")
	if !ok || p.Spec.Hostname != "db-0" || p.Spec.Subdomain != "dbs" || p.Labels["statefulset.kubernetes.io/pod-name"] != "db-0" ||
		p.Labels["apps.kubernetes.io/pod-index"] != "0" || p.Spec.Volumes[0].PersistentVolumeClaim.ClaimName != "data-db-0" {
		t.Errorf("%+v", p)
	}
	c, ok := cache.Get[corev1.PersistentVolumeClaim](w.Cache.Snapshot(), "default", "data-db-0")
	if !ok || c.Labels["app"] != "db" || len(c.OwnerReferences) > 0 {
		t.Errorf("%+v", c)
	}
	s, _ := cache.Get[appsv1.StatefulSet](w.Cache.Snapshot(), "default", "db")
	if r := s.Status.CurrentRevision; r == "" || p.Labels["controller-revision-hash"] != r {
		t.Errorf("revision %q, labels %v", r, p.Labels)
	}
}

func TestClaimsGoAsThePolicySays(t *testing.T) {
	const keep, del = appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	for _, x := range []struct {
		deleted, scaled appsv1.PersistentVolumeClaimRetentionPolicyType
		staying, going  string // the owner's kind
	}{{keep, keep, "", ""}, {del, keep, "StatefulSet", "StatefulSet"}, {keep, del, "", "Pod"}, {del, del, "StatefulSet", "Pod"}} {
		t.Run(string(x.deleted+x.scaled), func(t *testing.T) {
			w := reconciletest.New(t.Context(), func() time.Time { return start }, set(2, func(s *appsv1.StatefulSet) {
				s.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: x.deleted, WhenScaled: x.scaled}
			}))
			reconciletest.Converges(t, w, reconciletest.Check{Settle: live}, Controller())
			got, _ := cache.Get[appsv1.StatefulSet](w.Cache.Snapshot(), "default", "db")
			got = got.DeepCopy()
			got.Spec.Replicas = new(int32(1))
			w.Put(got)
			reconciletest.Converges(t, w, reconciletest.Check{Settle: live}, Controller())
			for name, want := range map[string]string{"data-db-0": x.staying, "data-db-1": x.going} {
				c, _ := cache.Get[corev1.PersistentVolumeClaim](w.Cache.Snapshot(), "default", name)
				kind := ""
				if len(c.OwnerReferences) > 0 {
					kind = c.OwnerReferences[0].Kind
				}
				if kind != want {
					t.Errorf("%s belongs to %q, want %q", name, kind, want)
				}
			}
		})
	}
}

func TestAPodThatEndedIsMadeAgain(t *testing.T) {
	w := reconciletest.New(t.Context(), func() time.Time { return start }, set(1))
	reconciletest.Converges(t, w, reconciletest.Check{Settle: live}, Controller())
	reconciletest.Change(w, func(p *corev1.Pod) bool { p.Status = corev1.PodStatus{Phase: corev1.PodFailed}; return true })
	plan, _ := Controller().Explain(w.Cache.Snapshot(), reconcile.Key{Namespace: "default", Name: "db"}, start)
	found := false
	for _, a := range plan.Actions {
		e, ok := a.(reconcile.Event)
		found = found || ok && e.Reason == "RecreatingFailedPod" && e.Message == "StatefulSet default/db is recreating failed Pod db-0"
	}
	if !found {
		t.Errorf("plan %s", plan)
	}
	reconciletest.Converges(t, w, reconciletest.Check{Settle: live}, Controller())
	if p, ok := cache.Get[corev1.Pod](w.Cache.Snapshot(), "default", "db-0"); !ok || !pods.Ready(p) {
		t.Errorf("%+v", p)
	}
}
