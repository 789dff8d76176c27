// SPDX-License-Identifier: Apache-2.0

package scheduler_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/apiserver/apiservertest"
	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/scheduler"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
	"github.com/knarr/knarr/state/events"
)

// begin runs the scheduler, as the user it is, against a real API server.
func begin(t *testing.T) *apiservertest.Server {
	s := apiservertest.New(t)
	s.Account(t, "default")
	doer := s.As(auth.Component("kube-scheduler"))
	log := slog.New(slog.DiscardHandler)
	sink := events.New(doer, log)
	sched := scheduler.New(s.Cache(), doer, sink.For(scheduler.Name, ""), log)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _ = sink.Run(ctx) })
	all.Go(func() {
		if err := sched.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); all.Wait() })
	return s
}

func makeNode(t *testing.T, s *apiservertest.Server, name, cpu string) {
	t.Helper()
	nodes := client.For[corev1.Node](s.Admin, "test")
	n, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	if err != nil {
		t.Fatal(err)
	}
	n = n.DeepCopy()
	n.Status.Allocatable = corev1.ResourceList{
		"cpu": resource.MustParse(cpu), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("110"),
	}
	n.Status.Capacity = n.Status.Allocatable
	if _, err := nodes.UpdateStatus(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

func makePod(t *testing.T, s *apiservertest.Server, name, cpu string) {
	t.Helper()
	_, err := client.For[corev1.Pod](s.Admin, "test").Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "web", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse(cpu)}}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// until waits, change by change, for a state of the cluster.
func until(t *testing.T, s *apiservertest.Server, what string, ok func(*cache.Snapshot) bool) *cache.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	snap := s.Cache().Snapshot()
	if ok(snap) {
		return snap
	}
	for range s.Cache().WatchAll(ctx, snap.Revision()) {
		if snap = s.Cache().Snapshot(); ok(snap) {
			return snap
		}
	}
	t.Fatalf("not so: %s", what)
	return nil
}

func condition(p *corev1.Pod) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			return c
		}
	}
	return corev1.PodCondition{}
}

func event(s *cache.Snapshot, pod, reason string) (*corev1.Event, bool) {
	for e := range cache.List[corev1.Event](s, "default") {
		if e.InvolvedObject.Name == pod && e.Reason == reason {
			return e, true
		}
	}
	return nil, false
}

func TestManyPodsAreBoundThroughTheAPI(t *testing.T) {
	s := begin(t)
	for _, name := range []string{"a", "b", "c"} {
		makeNode(t, s, name, "2")
	}
	const pods = 50
	for i := range pods {
		makePod(t, s, fmt.Sprintf("p%02d", i), "100m")
	}
	snap := until(t, s, "all pods are bound, and say so", func(snap *cache.Snapshot) bool {
		bound := 0
		for p := range cache.List[corev1.Pod](snap, "default") {
			if p.Spec.NodeName != "" && condition(p).Status == corev1.ConditionTrue {
				bound++
			}
		}
		return bound == pods
	})
	on := map[string]int{}
	for p := range cache.List[corev1.Pod](snap, "default") {
		on[p.Spec.NodeName]++
	}
	for _, name := range []string{"a", "b", "c"} {
		if on[name] < pods/4 || on[name] > 20 { // 2 cpu hold 20
			t.Errorf("%v", on)
		}
	}
	snap = until(t, s, "there is an event", func(snap *cache.Snapshot) bool { _, ok := event(snap, "p07", "Scheduled"); return ok })
	e, _ := event(snap, "p07", "Scheduled")
	p, _ := cache.Get[corev1.Pod](snap, "default", "p07")
	if want := "Successfully assigned default/p07 to " + p.Spec.NodeName; e.Message != want || e.Type != "Normal" || e.Source.Component != "default-scheduler" {
		t.Errorf("event %s %q of %q, want %q", e.Type, e.Message, e.Source.Component, want)
	}
}

func TestAPodThatFitsNowhereSaysSoAndIsBoundWhenANodeAppears(t *testing.T) {
	s := begin(t)
	makeNode(t, s, "small", "1")
	makePod(t, s, "big", "3")
	const summary = "0/1 nodes are available: 1 Insufficient cpu."
	until(t, s, "the condition tells why", func(snap *cache.Snapshot) bool {
		p, ok := cache.Get[corev1.Pod](snap, "default", "big")
		if !ok {
			return false
		}
		c := condition(p)
		return c.Status == corev1.ConditionFalse && c.Reason == "Unschedulable" && c.Message == summary && p.Status.Phase == corev1.PodPending
	})
	snap := until(t, s, "there is an event", func(snap *cache.Snapshot) bool { _, ok := event(snap, "big", "FailedScheduling"); return ok })
	if e, _ := event(snap, "big", "FailedScheduling"); e.Message != summary+" small: Insufficient cpu." || e.Type != "Warning" {
		t.Errorf("event %s %q", e.Type, e.Message)
	}
	makeNode(t, s, "large", "4")
	until(t, s, "it is bound to the new node", func(snap *cache.Snapshot) bool {
		p, _ := cache.Get[corev1.Pod](snap, "default", "big")
		return p.Spec.NodeName == "large" && condition(p).Status == corev1.ConditionTrue
	})
}
