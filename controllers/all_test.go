// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA1019 Endpoints are deprecated upstream, and still served and made

package controllers_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/apiserver/apiservertest"
	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/controllers"
	"github.com/knarr/knarr/scheduler"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
	"github.com/knarr/knarr/state/events"
	"github.com/knarr/knarr/state/reconcile"
)

// plane is a real API server with all controllers and the scheduler, with the rights that they have in a cluster.
type plane struct {
	*apiservertest.Server
	t    *testing.T
	loop *reconcile.Loop
}

func start(t *testing.T) *plane {
	t.Setenv("KNARR_VERIFY", "1")
	s := apiservertest.New(t)
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	manager, sched := s.As(auth.Component("kube-controller-manager")), s.As(auth.Component("kube-scheduler"))
	sink := events.New(manager, log)
	p := &plane{Server: s, t: t}
	p.loop = reconcile.New(s.Cache(), manager, func(name string) reconcile.Recorder { return sink.For(name, "") }, reconcile.Options{}, log, controllers.All(controllers.Config{ClusterCIDR: netip.MustParsePrefix("10.42.0.0/16"), Signer: s.Auth()})...)
	schedSink := events.New(sched, log)
	for _, run := range []func(context.Context) error{
		p.loop.Run, sink.Run, schedSink.Run, scheduler.New(s.Cache(), sched, schedSink.For("default-scheduler", ""), log).Run,
	} {
		wg.Go(func() { _ = run(ctx) })
	}
	return p
}

// until waits for the cache to show something.
func (p *plane) until(what string, ok func(*cache.Snapshot) bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	c := p.Cache()
	from := c.Snapshot().Revision()
	if ok(c.Snapshot()) {
		return
	}
	for _, err := range c.WatchAll(ctx, from) {
		if err != nil {
			p.t.Fatal(err)
		}
		if ok(c.Snapshot()) {
			return
		}
	}
	p.t.Fatalf("%s: it did not come; health %+v", what, p.loop.Health())
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// node is a node that is alive, without a kubelet.
func (p *plane) node(name string) {
	p.t.Helper()
	n := must[*corev1.Node](p.t)(client.For[corev1.Node](p.Admin, "test").Create(p.t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})).DeepCopy()
	n.ResourceVersion = "" // controllers write to it meanwhile
	n.Status.Allocatable = corev1.ResourceList{corev1.ResourcePods: *newQuantity(110), corev1.ResourceCPU: *newQuantity(64), corev1.ResourceMemory: *newQuantity(64 << 30)}
	n.Status.Capacity = n.Status.Allocatable
	now := metav1.Now()
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: now, LastTransitionTime: now}}
	must[*corev1.Node](p.t)(client.For[corev1.Node](p.Admin, "test").UpdateStatus(p.t.Context(), n))
}

// run says of each pod that has a node that it runs and is ready.
func (p *plane) run(ctx context.Context) {
	pods := client.For[corev1.Pod](p.Admin, "test")
	next := 1
	for c, err := range p.Cache().Watch(ctx, podType, p.Cache().Snapshot().Revision()) {
		if err != nil {
			p.t.Error(err)
			return
		}
		if c.New == nil {
			continue
		}
		pod := cache.As[corev1.Pod](c.New)
		switch {
		case pod.DeletionTimestamp != nil:
			_ = pods.Delete(ctx, pod.Namespace, pod.Name, client.DeleteOptions{GracePeriod: new(int64)})
		case pod.Spec.NodeName != "" && pod.Status.Phase == corev1.PodPending:
			q := pod.DeepCopy()
			next++
			q.Status.Phase, q.Status.PodIP = corev1.PodRunning, fmt.Sprintf("10.42.0.%d", next)
			q.Status.PodIPs = []corev1.PodIP{{IP: q.Status.PodIP}}
			q.Status.Conditions = append(q.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
			_, _ = pods.UpdateStatus(ctx, q)
		}
	}
}

func deployment(ns string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx:1.8", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80}}}}},
			},
		},
	}
}

func service(ns string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intOrString("http")}}},
	}
}

func TestADeploymentFromApplyToEndpoints(t *testing.T) {
	p := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.node("n1")
	p.node("n2")
	p.until("the default service account", func(s *cache.Snapshot) bool {
		_, ok := cache.Get[corev1.ServiceAccount](s, "default", "default")
		_, ca := cache.Get[corev1.ConfigMap](s, "default", "kube-root-ca.crt")
		return ok && ca
	})
	go p.run(ctx)
	deployments := client.For[appsv1.Deployment](p.Admin, "test")
	must[*corev1.Service](t)(client.For[corev1.Service](p.Admin, "test").Create(ctx, service("default")))
	began := time.Now()
	must[*appsv1.Deployment](t)(deployments.Create(ctx, deployment("default", 30)))
	available := func(n int32) func(*cache.Snapshot) bool {
		return func(s *cache.Snapshot) bool {
			d, ok := cache.Get[appsv1.Deployment](s, "default", "web")
			return ok && d.Status.AvailableReplicas == n && d.Status.UpdatedReplicas == n && d.Status.Replicas == n
		}
	}
	p.until("30 pods", available(30))
	t.Logf("30 pods: applied to available in %v", time.Since(began))
	endpoints := func(n int) func(*cache.Snapshot) bool {
		return func(s *cache.Snapshot) bool {
			in, old := 0, 0
			for e := range cache.List[discoveryv1.EndpointSlice](s, "default") {
				if e.Labels[discoveryv1.LabelServiceName] == "web" {
					in += len(e.Endpoints)
				}
			}
			if e, ok := cache.Get[corev1.Endpoints](s, "default", "web"); ok {
				for _, sub := range e.Subsets {
					old += len(sub.Addresses)
				}
			}
			return in == n && old == n
		}
	}
	p.until("endpoints", endpoints(30))
	per := map[string]int{}
	for pod := range cache.List[corev1.Pod](p.Cache().Snapshot(), "default") {
		per[pod.Spec.NodeName]++
	}
	if per["n1"] != 15 || per["n2"] != 15 {
		t.Errorf("pods by node: %v", per)
	}
	p.until("events", func(s *cache.Snapshot) bool {
		seen := map[string]bool{}
		for e := range cache.List[corev1.Event](s, "default") {
			seen[e.Reason] = true
		}
		return seen["ScalingReplicaSet"] && seen["SuccessfulCreate"] && seen["Scheduled"]
	})

	d, _ := cache.Get[appsv1.Deployment](p.Cache().Snapshot(), "default", "web")
	d = d.DeepCopy()
	d.Spec.Template.Spec.Containers[0].Image = "nginx:1.9"
	d.Spec.Replicas = ptr(int32(10))
	d.ResourceVersion = ""
	must[*appsv1.Deployment](t)(deployments.Update(ctx, d))
	p.until("the rollout", func(s *cache.Snapshot) bool {
		for pod := range cache.List[corev1.Pod](s, "default") {
			if pod.Spec.Containers[0].Image != "nginx:1.9" {
				return false
			}
		}
		return available(10)(s)
	})
	p.until("endpoints after it", endpoints(10))

	if err := deployments.Delete(ctx, "default", "web", client.DeleteOptions{Propagation: "Foreground"}); err != nil {
		t.Fatal(err)
	}
	p.until("all of it is gone", func(s *cache.Snapshot) bool {
		_, there := cache.Get[appsv1.Deployment](s, "default", "web")
		return !there && s.Len(podType) == 0 && s.Len(setType) == 0
	})
	p.until("no endpoints", endpoints(0))
}

func TestANamespaceEndsWithAllThatIsInIt(t *testing.T) {
	p := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.node("n1")
	go p.run(ctx)
	namespaces := client.For[corev1.Namespace](p.Admin, "test")
	must[*corev1.Namespace](t)(namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}))
	p.until("the service account", func(s *cache.Snapshot) bool {
		_, ok := cache.Get[corev1.ServiceAccount](s, "team", "default")
		return ok
	})
	must[*corev1.Service](t)(client.For[corev1.Service](p.Admin, "test").Create(ctx, service("team")))
	must[*appsv1.Deployment](t)(client.For[appsv1.Deployment](p.Admin, "test").Create(ctx, deployment("team", 3)))
	p.until("its pods", func(s *cache.Snapshot) bool {
		d, ok := cache.Get[appsv1.Deployment](s, "team", "web")
		return ok && d.Status.AvailableReplicas == 3
	})
	if err := namespaces.Delete(ctx, "", "team", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	p.until("the namespace is gone", func(s *cache.Snapshot) bool {
		_, ok := cache.Get[corev1.Namespace](s, "", "team")
		return !ok
	})
	for _, k := range p.Cache().Snapshot().Types() {
		if k.Cluster {
			continue
		}
		for e := range p.Cache().Snapshot().List(k, "team") {
			t.Errorf("left: %s %s", k.Kind, e.Object.GetName())
		}
	}
}

func TestOrphaning(t *testing.T) {
	p := start(t)
	ctx := t.Context()
	p.until("the service account", func(s *cache.Snapshot) bool {
		_, ok := cache.Get[corev1.ServiceAccount](s, "default", "default")
		return ok
	})
	deployments := client.For[appsv1.Deployment](p.Admin, "test")
	must[*appsv1.Deployment](t)(deployments.Create(ctx, deployment("default", 1)))
	p.until("the replica set and the pod", func(s *cache.Snapshot) bool { return s.Len(setType) == 1 && s.Len(podType) == 1 })
	if err := deployments.Delete(ctx, "default", "web", client.DeleteOptions{Propagation: "Orphan"}); err != nil {
		t.Fatal(err)
	}
	p.until("the deployment is gone", func(s *cache.Snapshot) bool {
		_, ok := cache.Get[appsv1.Deployment](s, "default", "web")
		return !ok
	})
	for rs := range cache.List[appsv1.ReplicaSet](p.Cache().Snapshot(), "default") {
		if len(rs.OwnerReferences) > 0 {
			t.Errorf("owners %v", rs.OwnerReferences)
		}
	}
	must[*appsv1.Deployment](t)(deployments.Create(ctx, deployment("default", 1)))
	p.until("it is adopted", func(s *cache.Snapshot) bool {
		for rs := range cache.List[appsv1.ReplicaSet](s, "default") {
			return len(rs.OwnerReferences) == 1 && s.Len(setType) == 1
		}
		return false
	})
}
