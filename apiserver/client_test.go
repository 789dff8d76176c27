// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/knarr/knarr/apiserver"
	"github.com/knarr/knarr/apiserver/apiservertest"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/client"
)

func config(t *testing.T, s *apiservertest.Server) *restclient.Config {
	t.Helper()
	c, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	c.QPS = -1
	return c
}

func clientset(t *testing.T, s *apiservertest.Server) *kubernetes.Clientset {
	t.Helper()
	cs, err := kubernetes.NewForConfig(config(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

func cm(name string, labels ...string) *corev1.ConfigMap {
	o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for i := 0; i+1 < len(labels); i += 2 {
		o.Labels[labels[i]] = labels[i+1]
	}
	return o
}

func deployment(name string) *appsv1.Deployment {
	n := int32(2)
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx:1.8"}}},
			},
		},
	}
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx:1.8"}}},
	}
}

func TestVerbsAndTexts(t *testing.T) {
	s := apiservertest.New(t)
	cs := clientset(t, s)
	ctx := t.Context()
	maps := cs.CoreV1().ConfigMaps("default")

	if _, err := maps.Get(ctx, "x", metav1.GetOptions{}); err == nil || err.Error() != `configmaps "x" not found` {
		t.Errorf("get of nothing: %v", err)
	}
	made, err := maps.Create(ctx, cm("one"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if made.UID == "" || made.ResourceVersion == "" || made.CreationTimestamp.IsZero() || made.Namespace != "default" {
		t.Errorf("metadata not filled in: %+v", made.ObjectMeta)
	}
	if _, err := maps.Create(ctx, cm("one"), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) || err.Error() != `configmaps "one" already exists` {
		t.Errorf("create twice: %v", err)
	}
	if _, err := cs.CoreV1().ConfigMaps("nowhere").Create(ctx, cm("one"), metav1.CreateOptions{}); !apierrors.IsNotFound(err) || err.Error() != `namespaces "nowhere" not found` {
		t.Errorf("create in no namespace: %v", err)
	}
	if _, err := cs.AppsV1().Deployments("default").Get(ctx, "d", metav1.GetOptions{}); err == nil || err.Error() != `deployments.apps "d" not found` {
		t.Errorf("get of nothing: %v", err)
	}

	second := made.DeepCopy()
	second.Data = map[string]string{"a": "1"}
	second, err = maps.Update(ctx, second, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made.Data = map[string]string{"a": "2"}
	_, err = maps.Update(ctx, made, metav1.UpdateOptions{})
	want := `Operation cannot be fulfilled on configmaps "one": the object has been modified; please apply your changes to the latest version and try again`
	if !apierrors.IsConflict(err) || err.Error() != want {
		t.Errorf("stale update: %v", err)
	}
	same, err := maps.Update(ctx, second, metav1.UpdateOptions{})
	if err != nil || same.ResourceVersion != second.ResourceVersion {
		t.Errorf("an update that changes nothing wrote something: %v", err)
	}
	generated, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "gen-"}}, metav1.CreateOptions{})
	if err != nil || len(generated.Name) != len("gen-")+5 {
		t.Errorf("generateName: %q, %v", generated.GetName(), err)
	}
	_, err = maps.Create(ctx, &corev1.ConfigMap{}, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "name or generateName is required") {
		t.Errorf("no name: %v", err)
	}
	dry, err := maps.Create(ctx, cm("dry"), metav1.CreateOptions{DryRun: []string{"All"}})
	if err != nil || dry.UID == "" {
		t.Errorf("dry run: %v", err)
	}
	if _, err := maps.Get(ctx, "dry", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a dry run was stored: %v", err)
	}
	wrong := types.UID("other")
	if err := maps.Delete(ctx, "one", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &wrong}}); !apierrors.IsConflict(err) {
		t.Errorf("delete of another object: %v", err)
	}
	if err := maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if l, err := maps.List(ctx, metav1.ListOptions{}); err != nil || len(l.Items) != 0 {
		t.Errorf("after deletecollection: %d objects, %v", len(l.Items), err)
	}
}

func TestInvalidListsEveryFault(t *testing.T) {
	s := apiservertest.New(t)
	d := deployment("Bad_Name")
	d.Spec.Template.Spec.Containers[0].Name = ""
	d.Spec.Selector.MatchLabels = map[string]string{"app": "other"}
	_, err := clientset(t, s).AppsV1().Deployments("default").Create(t.Context(), d, metav1.CreateOptions{})
	var st apierrors.APIStatus
	if !errors.As(err, &st) || st.Status().Code != 422 {
		t.Fatalf("want 422, got %v", err)
	}
	if n := len(st.Status().Details.Causes); n < 3 {
		t.Errorf("want the faults of name, selector and container, got %d: %v", n, err)
	}
}

func TestGenerationAndStatus(t *testing.T) {
	s := apiservertest.New(t)
	ctx := t.Context()
	deployments := clientset(t, s).AppsV1().Deployments("default")
	d := deployment("web")
	d.Status.Replicas = 7
	d, err := deployments.Create(ctx, d, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if d.Generation != 1 || d.Status.Replicas != 0 {
		t.Errorf("after create: generation %d, status.replicas %d", d.Generation, d.Status.Replicas)
	}
	d.Status.Replicas = 2
	n := int32(9)
	d.Spec.Replicas = &n
	d, err = deployments.UpdateStatus(ctx, d, metav1.UpdateOptions{})
	if err != nil || d.Status.Replicas != 2 || *d.Spec.Replicas != 2 || d.Generation != 1 {
		t.Errorf("status write: %+v generation %d, %v", d.Status, d.Generation, err)
	}
	d.Spec.Replicas = &n
	d.Status.Replicas = 5
	d, err = deployments.Update(ctx, d, metav1.UpdateOptions{})
	if err != nil || d.Status.Replicas != 2 || *d.Spec.Replicas != 9 || d.Generation != 2 {
		t.Errorf("spec write: replicas %d, status %d, generation %d, %v", *d.Spec.Replicas, d.Status.Replicas, d.Generation, err)
	}
	scale, err := deployments.GetScale(ctx, "web", metav1.GetOptions{})
	if err != nil || scale.Spec.Replicas != 9 || scale.Status.Replicas != 2 || scale.Status.Selector != "app=web" {
		t.Errorf("scale: %+v, %v", scale, err)
	}
	scale.Spec.Replicas = 3
	if _, err := deployments.UpdateScale(ctx, "web", scale, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	d, err = deployments.Get(ctx, "web", metav1.GetOptions{})
	if err != nil || *d.Spec.Replicas != 3 || d.Generation != 3 {
		t.Errorf("after scale: %d, generation %d, %v", *d.Spec.Replicas, d.Generation, err)
	}
	for how, patch := range map[types.PatchType]string{
		types.JSONPatchType:           `[{"op":"replace","path":"/spec/replicas","value":4}]`,
		types.MergePatchType:          `{"spec":{"replicas":5}}`,
		types.StrategicMergePatchType: `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"nginx:2"}]}}}}`,
	} {
		if _, err := deployments.Patch(ctx, "web", how, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Errorf("%s: %v", how, err)
		}
	}
	d, err = deployments.Get(ctx, "web", metav1.GetOptions{})
	if err != nil || d.Spec.Template.Spec.Containers[0].Image != "nginx:2" || len(d.Spec.Template.Spec.Containers) != 1 {
		t.Errorf("after patches: %+v, %v", d.Spec.Template.Spec.Containers, err)
	}
}

func TestPages(t *testing.T) {
	s := apiservertest.New(t)
	ctx := t.Context()
	maps := clientset(t, s).CoreV1().ConfigMaps("default")
	for i := range 7 {
		if _, err := maps.Create(ctx, cm(fmt.Sprintf("m%d", i)), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	first, err := maps.List(ctx, metav1.ListOptions{Limit: 3})
	if err != nil || len(first.Items) != 3 || first.Continue == "" || *first.RemainingItemCount != 4 {
		t.Fatalf("first page: %d, %v", len(first.Items), err)
	}
	if err := maps.Delete(ctx, "m4", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	names := []string{}
	page := first
	for {
		for _, o := range page.Items {
			names = append(names, o.Name)
		}
		if page.Continue == "" {
			break
		}
		if page, err = maps.List(ctx, metav1.ListOptions{Limit: 3, Continue: page.Continue}); err != nil {
			t.Fatal(err)
		}
		if page.ResourceVersion != first.ResourceVersion {
			t.Errorf("pages of revisions %s and %s", first.ResourceVersion, page.ResourceVersion)
		}
	}
	if got := strings.Join(names, " "); got != "m0 m1 m2 m3 m4 m5 m6" {
		t.Errorf("pages show %s, not the state of the first page", got)
	}
	if _, err := maps.List(ctx, metav1.ListOptions{Limit: 3, Continue: "garbage"}); !apierrors.IsBadRequest(err) {
		t.Errorf("garbage token: %v", err)
	}
	exact, err := maps.List(ctx, metav1.ListOptions{ResourceVersion: first.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
	if err != nil || len(exact.Items) != 7 {
		t.Errorf("the past: %d objects, %v", len(exact.Items), err)
	}
}

func TestCompactedPageAndWatchAreGone(t *testing.T) {
	s := apiservertest.New(t)
	st := s.Store
	ctx := t.Context()
	maps := clientset(t, s).CoreV1().ConfigMaps("default")
	for i := range 5 {
		if _, err := maps.Create(ctx, cm(fmt.Sprintf("m%d", i)), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	first, err := maps.List(ctx, metav1.ListOptions{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	last, err := maps.Create(ctx, cm("z"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rev := int64(0)
	if _, err := fmt.Sscan(last.ResourceVersion, &rev); err != nil {
		t.Fatal(err)
	}
	if err := st.Compact(ctx, rev); err != nil {
		t.Fatal(err)
	}
	_, err = maps.List(ctx, metav1.ListOptions{Limit: 2, Continue: first.Continue})
	if !apierrors.IsResourceExpired(err) {
		t.Fatalf("page of a compacted revision: %v", err)
	}
	// What is left can be had as it is now.
	var gone *apierrors.StatusError
	if !errors.As(err, &gone) || gone.ErrStatus.Continue == "" {
		t.Fatalf("no way to go on: %v", err)
	}
	rest, err := maps.List(ctx, metav1.ListOptions{Limit: 100, Continue: gone.ErrStatus.Continue})
	if err != nil || len(rest.Items) == 0 || rest.Items[len(rest.Items)-1].Name != "z" || rest.ResourceVersion == first.ResourceVersion {
		t.Errorf("the rest as it is now: %v %v", rest, err)
	}
	// A server started later has not seen what was before it.
	later := apiservertest.New(t, func(c *apiserver.Config) { c.Store = st })
	w, err := clientset(t, later).CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{ResourceVersion: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	ev := next(t, w)
	if ev.Type != watch.Error || !apierrors.IsResourceExpired(apierrors.FromObject(ev.Object)) {
		t.Errorf("watch from the forgotten past: %v %v", ev.Type, ev.Object)
	}
}

func next(t *testing.T, w watch.Interface) watch.Event {
	t.Helper()
	select {
	case ev, ok := <-w.ResultChan():
		if !ok {
			t.Fatal("the watch ended")
		}
		return ev
	case <-time.After(5 * time.Second):
		t.Fatal("no event")
	}
	return watch.Event{}
}

func expect(t *testing.T, w watch.Interface, typ watch.EventType, name string) *corev1.ConfigMap {
	t.Helper()
	ev := next(t, w)
	o, ok := ev.Object.(*corev1.ConfigMap)
	if !ok || ev.Type != typ || o.Name != name {
		t.Fatalf("want %s %s, got %s %+v", typ, name, ev.Type, ev.Object)
	}
	return o
}

func TestWatch(t *testing.T) {
	for _, contentType := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		t.Run(contentType, func(t *testing.T) {
			s := apiservertest.New(t)
			ctx := t.Context()
			c := config(t, s)
			c.ContentType = contentType
			cs, err := kubernetes.NewForConfig(c)
			if err != nil {
				t.Fatal(err)
			}
			maps := cs.CoreV1().ConfigMaps("default")
			create := func(o *corev1.ConfigMap) *corev1.ConfigMap {
				t.Helper()
				o, err := maps.Create(ctx, o, metav1.CreateOptions{})
				if err != nil {
					t.Fatal(err)
				}
				return o
			}
			a := create(cm("a", "tier", "x"))
			w, err := maps.Watch(ctx, metav1.ListOptions{LabelSelector: "tier=x"})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			expect(t, w, watch.Added, "a")
			b := create(cm("b"))
			b.Labels = map[string]string{"tier": "x"}
			b, err = maps.Update(ctx, b, metav1.UpdateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, w, watch.Added, "b") // entered
			b.Data = map[string]string{"k": "v"}
			b, err = maps.Update(ctx, b, metav1.UpdateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := expect(t, w, watch.Modified, "b"); got.Data["k"] != "v" {
				t.Errorf("modified: %+v", got)
			}
			b.Labels = nil
			b, err = maps.Update(ctx, b, metav1.UpdateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := expect(t, w, watch.Deleted, "b"); got.ResourceVersion != b.ResourceVersion || got.Labels["tier"] != "x" {
				t.Errorf("left the selection as %s %v, want the old state at %s", got.ResourceVersion, got.Labels, b.ResourceVersion)
			}
			if err := maps.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			expect(t, w, watch.Deleted, "a")

			// Resumed from an earlier revision it is all there again, once.
			w2, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: a.ResourceVersion, LabelSelector: "tier=x"})
			if err != nil {
				t.Fatal(err)
			}
			defer w2.Stop()
			expect(t, w2, watch.Added, "b")
			expect(t, w2, watch.Modified, "b")
			expect(t, w2, watch.Deleted, "b")
			expect(t, w2, watch.Deleted, "a")
		})
	}
}

func TestStreamingList(t *testing.T) {
	s := apiservertest.New(t)
	ctx := t.Context()
	maps := clientset(t, s).CoreV1().ConfigMaps("default")
	if _, err := maps.Create(ctx, cm("a"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	yes := true
	w, err := maps.Watch(ctx, metav1.ListOptions{SendInitialEvents: &yes, AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	expect(t, w, watch.Added, "a")
	o := expect(t, w, watch.Bookmark, "")
	if o.Annotations[metav1.InitialEventsAnnotationKey] != "true" || o.ResourceVersion == "" {
		t.Errorf("the bookmark after the initial events: %+v", o.ObjectMeta)
	}
	if _, err := maps.Watch(ctx, metav1.ListOptions{SendInitialEvents: &yes}); !apierrors.IsInvalid(err) {
		t.Errorf("sendInitialEvents without resourceVersionMatch: %v", err)
	}
}

func TestInformerSeesEverything(t *testing.T) {
	s := apiservertest.New(t)
	ctx := t.Context()
	c := config(t, s)
	c.ContentType = "application/vnd.kubernetes.protobuf"
	cs, err := kubernetes.NewForConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	f := informers.NewSharedInformerFactory(cs, 0)
	var mu sync.Mutex
	seen := map[string]int{}
	informer := f.Core().V1().ConfigMaps().Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(o any) {
		mu.Lock()
		defer mu.Unlock()
		seen[o.(*corev1.ConfigMap).Name]++
	}}); err != nil {
		t.Fatal(err)
	}
	f.Start(ctx.Done())
	const n = 50
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := cs.CoreV1().ConfigMaps("default").Create(ctx, cm(fmt.Sprintf("m%d", i)), metav1.CreateOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	eventually(t, "all objects in the informer", func() bool {
		mu.Lock()
		defer mu.Unlock()
		t.Logf("%d of %d", len(seen), n)
		return len(seen) >= n
	})
	for name, times := range seen {
		if times != 1 {
			t.Errorf("%s was added %d times", name, times)
		}
	}
}

// eventually waits for what a client's own goroutines bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
		time.Sleep(5 * time.Millisecond) //house:allow time.Sleep: between two looks at what sends no event
	}
}

func TestMetadataClient(t *testing.T) {
	s := apiservertest.New(t)
	ctx := t.Context()
	if _, err := clientset(t, s).CoreV1().ConfigMaps("default").Create(ctx, cm("a", "x", "y"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	m, err := metadata.NewForConfig(config(t, s))
	if err != nil {
		t.Fatal(err)
	}
	l, err := m.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace("default").List(ctx, metav1.ListOptions{})
	if err != nil || len(l.Items) != 1 || l.Items[0].Labels["x"] != "y" {
		t.Errorf("metadata: %+v, %v", l, err)
	}
}

func TestFieldSelectors(t *testing.T) {
	s := apiservertest.New(t)
	ctx := t.Context()
	cs := clientset(t, s)
	s.Account(t, "default")
	for _, name := range []string{"a", "b"} {
		if _, err := cs.CoreV1().Pods("default").Create(ctx, pod(name), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	err := cs.CoreV1().Pods("default").Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for sel, want := range map[string]int{"spec.nodeName=n1": 1, "spec.nodeName!=n1": 1, "metadata.name=b": 1, "status.phase=Pending": 2} {
		l, err := cs.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: sel})
		if err != nil || len(l.Items) != want {
			t.Errorf("%s: %d pods, %v", sel, len(l.Items), err)
		}
	}
	if _, err := cs.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.foo=1"}); !apierrors.IsBadRequest(err) {
		t.Errorf("unknown field: %v", err)
	}
	p, err := cs.CoreV1().Pods("default").Get(ctx, "a", metav1.GetOptions{})
	if err != nil || p.Spec.NodeName != "n1" || p.Status.Conditions[0].Type != corev1.PodScheduled {
		t.Errorf("bound pod: %+v, %v", p.Status.Conditions, err)
	}
	err = cs.CoreV1().Pods("default").Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n2"}}, metav1.CreateOptions{})
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `pod a is already assigned to node "n1"`) {
		t.Errorf("bind twice: %v", err)
	}
}

func TestGracefulDeletionAndFinalizers(t *testing.T) {
	s := apiservertest.New(t)
	ctx := t.Context()
	cs := clientset(t, s)
	s.Account(t, "default")
	pods := cs.CoreV1().Pods("default")
	if _, err := pods.Create(ctx, pod("p"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := pods.Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Target: corev1.ObjectReference{Name: "n"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := pods.Delete(ctx, "p", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	p, err := pods.Get(ctx, "p", metav1.GetOptions{})
	if err != nil || p.DeletionTimestamp == nil || *p.DeletionGracePeriodSeconds != 30 {
		t.Fatalf("after delete: %+v, %v", p.ObjectMeta, err)
	}
	zero := int64(0)
	if err := pods.Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(ctx, "p", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after delete with no grace: %v", err)
	}

	maps := cs.CoreV1().ConfigMaps("default")
	held := cm("held")
	held.Finalizers = []string{"example.com/hold"}
	if _, err := maps.Create(ctx, held, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	foreground := metav1.DeletePropagationForeground
	if err := maps.Delete(ctx, "held", metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		t.Fatal(err)
	}
	held, err = maps.Get(ctx, "held", metav1.GetOptions{})
	if err != nil || held.DeletionTimestamp == nil || len(held.Finalizers) != 2 {
		t.Fatalf("held: %+v, %v", held.ObjectMeta, err)
	}
	held.Finalizers = nil
	if _, err := maps.Update(ctx, held, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Get(ctx, "held", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after the last finalizer: %v", err)
	}
}

func TestNamespaceLife(t *testing.T) {
	s := apiservertest.New(t)
	ctx := t.Context()
	cs := clientset(t, s)
	ns, err := cs.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, metav1.CreateOptions{})
	if err != nil || ns.Status.Phase != corev1.NamespaceActive || len(ns.Spec.Finalizers) != 1 {
		t.Fatalf("new namespace: %+v, %v", ns, err)
	}
	if err := cs.CoreV1().Namespaces().Delete(ctx, "n", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	ns, err = cs.CoreV1().Namespaces().Get(ctx, "n", metav1.GetOptions{})
	if err != nil || ns.Status.Phase != corev1.NamespaceTerminating {
		t.Fatalf("ending namespace: %+v, %v", ns, err)
	}
	_, err = cs.CoreV1().ConfigMaps("n").Create(ctx, cm("x"), metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) || !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		t.Errorf("create in an ending namespace: %v", err)
	}
	ns.Spec.Finalizers = nil
	if _, err := cs.CoreV1().Namespaces().Finalize(ctx, ns, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := cs.CoreV1().Namespaces().Get(ctx, "n", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("finalized namespace: %v", err)
	}
	if err := cs.CoreV1().Namespaces().Delete(ctx, "kube-system", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("delete of kube-system: %v", err)
	}
}

func TestServiceAddressesAreUnique(t *testing.T) {
	s := apiservertest.New(t)
	ctx := t.Context()
	services := clientset(t, s).CoreV1().Services("default")
	svc := func(name string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}}}
	}
	const n = 40
	var mu sync.Mutex
	ips, ports := map[string]string{}, map[int32]string{}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			o, err := services.Create(ctx, svc(fmt.Sprintf("s%d", i)), metav1.CreateOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ips[o.Spec.ClusterIP] = o.Name
			ports[o.Spec.Ports[0].NodePort] = o.Name
		})
	}
	wg.Wait()
	if len(ips) != n || len(ports) != n {
		t.Errorf("%d addresses and %d ports for %d services", len(ips), len(ports), n)
	}
	var port int32
	for p := range ports {
		port = p
	}
	taken := svc("taken")
	taken.Spec.Ports[0].NodePort = port
	if _, err := services.Create(ctx, taken, metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "provided port is already allocated") {
		t.Errorf("a port that is taken: %v", err)
	}
	if err := services.Delete(ctx, ports[port], metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	o, err := services.Create(ctx, taken, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("a port that was given back: %v", err)
	}
	ip := o.Spec.ClusterIP
	o.Spec.Type = corev1.ServiceTypeClusterIP
	o, err = services.Update(ctx, o, metav1.UpdateOptions{})
	if err != nil || o.Spec.Ports[0].NodePort != 0 || o.Spec.ClusterIP != ip {
		t.Errorf("back to ClusterIP: %+v, %v", o.Spec, err)
	}
	if _, err := services.Patch(ctx, "taken", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{}); err != nil {
		t.Error(err)
	}
	kube, err := services.Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil || kube.Spec.ClusterIP != "10.43.0.1" {
		t.Errorf("the Service kubernetes: %+v, %v", kube.Spec, err)
	}
}

func TestServerSideApply(t *testing.T) {
	s := apiservertest.New(t)
	ctx := t.Context()
	d, err := dynamic.NewForConfig(config(t, s))
	if err != nil {
		t.Fatal(err)
	}
	maps := d.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace("default")
	apply := func(manager string, force bool, data map[string]any) (*unstructured.Unstructured, error) {
		u := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a"}, "data": data}}
		return maps.Apply(ctx, "a", u, metav1.ApplyOptions{FieldManager: manager, Force: force})
	}
	if _, err := apply("one", false, map[string]any{"x": "1", "y": "1"}); err != nil {
		t.Fatal(err)
	}
	_, err = apply("two", false, map[string]any{"x": "2"})
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "one"`) {
		t.Errorf("a field of another manager: %v", err)
	}
	if _, err := apply("two", true, map[string]any{"x": "2"}); err != nil {
		t.Errorf("forced: %v", err)
	}
	// An ordinary write by a third is booked too.
	if _, err := maps.Patch(ctx, "a", types.MergePatchType, []byte(`{"data":{"y":"3"}}`), metav1.PatchOptions{FieldManager: "three"}); err != nil {
		t.Fatal(err)
	}
	o, err := apply("one", false, map[string]any{"z": "1"})
	if err != nil {
		t.Fatal(err)
	}
	data, _, _ := unstructured.NestedStringMap(o.Object, "data")
	if fmt.Sprint(data) != "map[x:2 y:3 z:1]" {
		t.Errorf("after apply: %v; x is two's, y three's", data)
	}
	if o, err = apply("one", false, map[string]any{}); err != nil {
		t.Fatal(err)
	}
	if data, _, _ = unstructured.NestedStringMap(o.Object, "data"); fmt.Sprint(data) != "map[x:2 y:3]" {
		t.Errorf("after apply of nothing: %v; z must go with its only owner", data)
	}
}

func TestInProcessDoer(t *testing.T) {
	s := apiservertest.New(t)
	ctx := context.Background()
	maps := kinds.For[corev1.ConfigMap]()
	o, err := s.Admin.Do(ctx, client.Request{Verb: client.Create, Type: maps, Namespace: "default", Object: cm("a")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Admin.Do(ctx, client.Request{Verb: client.Create, Type: maps, Namespace: "default", Object: cm("a")})
	if !errors.Is(err, errs.Exists) || !apierrors.IsAlreadyExists(err) {
		t.Errorf("twice: %v", err)
	}
	if _, err := s.Admin.Do(ctx, client.Request{Verb: client.Delete, Type: maps, Namespace: "default", Name: "a", UID: o.GetUID()}); err != nil {
		t.Error(err)
	}
	_, err = s.Admin.Do(ctx, client.Request{Verb: client.Get, Type: maps, Namespace: "default", Name: "a"})
	if !errors.Is(err, errs.NotFound) {
		t.Errorf("gone: %v", err)
	}
	var _ runtime.Object = o
}
