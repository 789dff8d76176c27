// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kubelet"
	"github.com/knarr/knarr/kubelet/kubelettest"
	"github.com/knarr/knarr/kubelet/podruntime"
	"github.com/knarr/knarr/kubelet/volume"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/events"
)

func ptr[T any](v T) *T { return &v }

// rig is a kubelet on a fake runtime and a fake API.
type rig struct {
	t    *testing.T
	api  *kubelettest.FakeAPI
	rt   *kubelettest.FakeRuntime
	dir  string
	k    *kubelet.Kubelet
	stop func()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	t.Setenv("KNARR_VERIFY", "1")
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	r := &rig{t: t, api: kubelettest.NewAPI(log), rt: kubelettest.NewRuntime(func(s string) { t.Error("contract broken: " + s) }), dir: t.TempDir()}
	t.Cleanup(func() {
		pods, _ := filepath.Glob(filepath.Join(r.dir, "pods", "*"))
		for _, p := range pods {
			_ = volume.TearDown(p)
		}
	})
	t.Cleanup(r.rt.Close)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.api.Cache.Run(ctx) })
	<-r.api.Cache.Ready()
	t.Cleanup(func() { cancel(); wg.Wait() })
	r.start(log)
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *rig) start(log *slog.Logger) {
	r.t.Helper()
	sink := events.New(r.api, log)
	k, err := kubelet.New(kubelet.Config{
		NodeName: "n1", NodeIPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, ClusterDNS: []netip.Addr{netip.MustParseAddr("10.43.0.10")}, DataDir: r.dir,
	}, r.rt, r.api.Cache, r.api, sink.For("kubelet", "n1"), log)
	if err != nil {
		r.t.Fatal(err)
	}
	r.k = k
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = k.Run(ctx) })
	wg.Go(func() { _ = sink.Run(ctx) })
	r.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
}

// eventually waits for a change of the API or 10 s.
func (r *rig) eventually(what string, f func() error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	rev := r.api.Cache.Snapshot().Revision() // before the first look, so that no change falls between
	last := f()
	if last == nil {
		return
	}
	for range r.api.Cache.WatchAll(ctx, rev) {
		if last = f(); last == nil {
			return
		}
	}
	if last = f(); last != nil {
		r.t.Fatalf("%s: %v\ncalls: %v", what, last, r.rt.Calls())
	}
}

func (r *rig) get(name string) *corev1.Pod {
	p, ok := kubelettest.Get[corev1.Pod](r.api, "shop", name)
	if !ok {
		return nil
	}
	return p
}

// phase waits for a phase (and, for Running, readiness).
func (r *rig) phase(name string, want corev1.PodPhase) *corev1.Pod {
	r.t.Helper()
	r.eventually("pod "+name+" becomes "+string(want), func() error {
		p := r.get(name)
		if p == nil {
			return errors.New("it is gone")
		}
		if p.Status.Phase != want || want == corev1.PodRunning && !ready(p) {
			return fmt.Errorf("it is %s: %+v", p.Status.Phase, p.Status.ContainerStatuses)
		}
		return nil
	})
	p := r.get(name)
	rev, _ := strconv.ParseInt(p.ResourceVersion, 10, 64)
	if _, err := r.api.Cache.Wait(context.Background(), rev); err != nil { // the kubelet sees it too
		r.t.Fatal(err)
	}
	return p
}

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func (r *rig) events(name string) []string {
	var out []string
	for e := range cache.List[corev1.Event](r.api.Cache.Snapshot(), "shop") {
		if e.InvolvedObject.Name == name {
			out = append(out, e.Reason+": "+e.Message)
		}
	}
	return out
}

func (r *rig) hasEvent(pod, want string) {
	r.t.Helper()
	r.eventually("event "+want, func() error {
		for _, e := range r.events(pod) {
			if strings.Contains(e, want) {
				return nil
			}
		}
		return fmt.Errorf("there are %q", r.events(pod))
	})
}

func pod(name string, containers ...corev1.Container) *corev1.Pod {
	for i := range containers {
		c := &containers[i]
		if c.Image == "" {
			c.Image = "web"
		}
		if c.ImagePullPolicy == "" {
			c.ImagePullPolicy = corev1.PullIfNotPresent
		}
		if c.TerminationMessagePath == "" {
			c.TerminationMessagePath = "/dev/termination-log"
		}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", Generation: 1},
		Spec: corev1.PodSpec{NodeName: "n1", RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: ptr(int64(30)),
			DNSPolicy: corev1.DNSClusterFirst, Containers: containers},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
}

func TestPodLifeFromCreationToDeletion(t *testing.T) {
	r := newRig(t)
	r.rt.AddImage("web", kubelettest.UntilStopped)
	r.api.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cfg", Namespace: "shop"}, Data: map[string]string{"k": "v1"}})
	r.api.Put(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes", Namespace: "default"}, Spec: corev1.ServiceSpec{ClusterIP: "10.43.0.1", Ports: []corev1.ServicePort{{Port: 443}}}})
	p := pod("web", corev1.Container{Name: "c", Env: []corev1.EnvVar{
		{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}}, {Name: "URL", Value: "http://$(IP)"}},
		VolumeMounts: []corev1.VolumeMount{{Name: "cfg", MountPath: "/cfg"}, {Name: "cfg", MountPath: "/one", SubPath: "k"}}})
	p.Spec.Volumes = []corev1.Volume{{Name: "cfg", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}}}}}
	p.Spec.HostAliases = []corev1.HostAlias{{IP: "1.2.3.4", Hostnames: []string{"a", "b"}}}
	r.api.Put(p)
	got := r.phase("web", corev1.PodRunning)

	cs := got.Status.ContainerStatuses[0]
	if cs.State.Running == nil || cs.RestartCount != 0 || !cs.Ready || !strings.HasPrefix(cs.ContainerID, "knarr://") || got.Status.PodIP == "" ||
		got.Status.HostIP != "127.0.0.1" || got.Status.QOSClass != corev1.PodQOSBestEffort || got.Status.StartTime == nil {
		t.Errorf("status is %+v", got.Status)
	}
	spec, _ := r.rt.Spec("c")
	for _, want := range []string{"IP=" + got.Status.PodIP, "URL=http://" + got.Status.PodIP, "HOSTNAME=web", "KUBERNETES_SERVICE_HOST=10.43.0.1", "KUBERNETES_PORT_443_TCP_PROTO=tcp"} {
		if !slices.Contains(spec.Env, want) {
			t.Errorf("env has no %s: %v", want, spec.Env)
		}
	}
	mounts := map[string]podruntime.Mount{}
	for _, m := range spec.Mounts {
		mounts[m.Target] = m
	}
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	if m := mounts["/cfg"]; !m.ReadOnly || read(filepath.Join(m.Source, "k")) != "v1" {
		t.Errorf("/cfg is %+v", m)
	}
	if read(mounts["/one"].Source) != "v1" {
		t.Error("the subPath shows something else")
	}
	if h := read(mounts["/etc/hosts"].Source); !strings.Contains(h, got.Status.PodIP+"\tweb\n") || !strings.Contains(h, "1.2.3.4\ta\tb\n") {
		t.Errorf("hosts: %s", h)
	}
	for _, e := range []string{`Pulled: Container image "web" already present on machine`, "Created: Created container: c", "Started: Started container c"} {
		r.hasEvent("web", e)
	}

	// A ConfigMap that changes is seen in the volume.
	r.api.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cfg", Namespace: "shop"}, Data: map[string]string{"k": "v2"}})
	deadline := time.Now().Add(5 * time.Second)
	for read(filepath.Join(mounts["/cfg"].Source, "k")) != "v2" {
		if time.Now().After(deadline) {
			t.Fatal("the volume does not follow")
		}
		<-time.After(5 * time.Millisecond)
	}

	uid := got.UID
	r.delete("web", 30)
	r.eventually("the pod goes", func() error {
		if r.get("web") != nil {
			return errors.New("it is there")
		}
		return nil
	})
	r.empty()
	if calls := r.rt.Calls(); !slices.Contains(calls, "signal c 0") || slices.Contains(calls, "signal c 9") {
		t.Errorf("it was not stopped gently: %v", calls)
	}
	if _, err := os.Lstat(filepath.Join(r.dir, "pods", string(uid))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder is left: %v", err)
	}
	if logs, _ := filepath.Glob(filepath.Join(r.dir, "pods-logs", "*")); len(logs) > 0 {
		t.Errorf("logs are left: %v", logs)
	}
}

// delete begins a graceful deletion.
func (r *rig) delete(name string, grace int64) {
	p := r.get(name)
	at := metav1.NewTime(time.Now().Add(time.Duration(grace) * time.Second))
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &at, &grace
	r.api.Put(p)
}

// empty waits until the runtime has nothing left.
func (r *rig) empty() {
	r.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		c, _ := r.rt.ListContainers(context.Background(), "")
		s, _ := r.rt.ListSandboxes(context.Background())
		dirs, _ := os.ReadDir(filepath.Join(r.dir, "pods"))
		if len(c) == 0 && len(s) == 0 && len(dirs) == 0 {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("left: %d containers, %d sandboxes, %d folders; calls %v", len(c), len(s), len(dirs), r.rt.Calls())
		}
		<-time.After(2 * time.Millisecond)
	}
}

func TestRestartOfTheKubeletChangesNothing(t *testing.T) {
	r := newRig(t)
	r.rt.AddImage("web", kubelettest.UntilStopped)
	r.api.Put(pod("web", corev1.Container{Name: "c", ReadinessProbe: &corev1.Probe{PeriodSeconds: 60, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}}))
	r.api.Put(pod("gone", corev1.Container{Name: "c"}))
	before := r.phase("web", corev1.PodRunning)
	r.phase("gone", corev1.PodRunning)
	r.stop()
	r.api.Remove(r.get("gone")) // while nobody looks
	if list, _ := r.rt.ListContainers(t.Context(), ""); len(list) != 2 {
		t.Fatalf("stopping the kubelet ended containers: %v", list)
	}
	r.start(slog.New(slog.DiscardHandler))
	deadline := time.Now().Add(5 * time.Second)
	for {
		list, _ := r.rt.ListContainers(t.Context(), "")
		if len(list) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the pod that was deleted meanwhile is not cleaned up: %v", list)
		}
		<-time.After(2 * time.Millisecond)
	}
	after := r.phase("web", corev1.PodRunning)
	if before.Status.ContainerStatuses[0].ContainerID != after.Status.ContainerStatuses[0].ContainerID || !ready(after) {
		t.Errorf("before %+v\nafter %+v", before.Status, after.Status)
	}
	for _, c := range after.Status.Conditions {
		for _, b := range before.Status.Conditions {
			if b.Type == c.Type && !b.LastTransitionTime.Equal(&c.LastTransitionTime) {
				t.Errorf("%s turned", c.Type)
			}
		}
	}
}

func TestRestartPolicies(t *testing.T) {
	r := newRig(t)
	r.rt.AddImage("ok", kubelettest.Exits(0))
	r.rt.AddImage("bad", kubelettest.Exits(3))
	for name, x := range map[string]struct {
		image string
		p     corev1.RestartPolicy
	}{
		"ok-never": {"ok", corev1.RestartPolicyNever}, "bad-never": {"bad", corev1.RestartPolicyNever}, "ok-onfailure": {"ok", corev1.RestartPolicyOnFailure},
		"bad-onfailure": {"bad", corev1.RestartPolicyOnFailure}, "ok-always": {"ok", corev1.RestartPolicyAlways},
	} {
		p := pod(name, corev1.Container{Name: "c", Image: x.image})
		p.Spec.RestartPolicy = x.p
		r.api.Put(p)
	}
	r.phase("ok-never", corev1.PodSucceeded)
	r.phase("ok-onfailure", corev1.PodSucceeded)
	if p := r.phase("bad-never", corev1.PodFailed); p.Status.ContainerStatuses[0].State.Terminated.ExitCode != 3 {
		t.Errorf("%+v", p.Status)
	}
	for _, name := range []string{"bad-onfailure", "ok-always"} {
		r.eventually(name+" is in back-off", func() error {
			cs := r.get(name).Status.ContainerStatuses
			if len(cs) == 0 || cs[0].State.Waiting == nil || cs[0].State.Waiting.Reason != "CrashLoopBackOff" || cs[0].RestartCount != 1 ||
				!strings.HasPrefix(cs[0].State.Waiting.Message, "back-off 10s restarting failed container=c pod="+name+"_shop(") || cs[0].LastTerminationState.Terminated == nil {
				return fmt.Errorf("%+v", cs)
			}
			return nil
		})
		r.hasEvent(name, "BackOff: Back-off restarting failed container c in pod "+name)
	}
	// A pod that has ended holds no sandbox, but its logs can be read.
	boxes, _ := r.rt.ListSandboxes(t.Context())
	if len(boxes) != 2 {
		t.Errorf("%d sandboxes, want those of the two that are restarted", len(boxes))
	}
}

func TestMissingConfigMapHoldsThePodBack(t *testing.T) {
	r := newRig(t)
	r.rt.AddImage("web", kubelettest.UntilStopped)
	p := pod("vol", corev1.Container{Name: "c", VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}})
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "later"}}}}}
	r.api.Put(p)
	r.api.Put(pod("env", corev1.Container{Name: "c", EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "later"}}}}}))
	r.hasEvent("vol", `FailedMount: MountVolume.SetUp failed for volume "v" : configmap "later" not found`)
	waits := func(name, reason, message string) {
		t.Helper()
		r.eventually(name+" waits", func() error {
			cs := r.get(name).Status.ContainerStatuses
			if len(cs) == 0 || cs[0].State.Waiting == nil || cs[0].State.Waiting.Reason != reason || cs[0].State.Waiting.Message != message {
				return fmt.Errorf("%+v", cs)
			}
			return nil
		})
	}
	waits("vol", "ContainerCreating", "")
	waits("env", "CreateContainerConfigError", `configmap "later" not found`)
	r.api.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "later", Namespace: "shop"}, Data: map[string]string{"K": "v"}})
	began := time.Now()
	r.phase("vol", corev1.PodRunning)
	r.phase("env", corev1.PodRunning)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v: the change did not wake them", took)
	}
}

func TestImages(t *testing.T) {
	r := newRig(t)
	r.rt.AddImage("web", kubelettest.UntilStopped)
	r.rt.AddRemote("far:1", podruntime.Image{ID: "sha256:far", Names: []string{"far:1"}, Size: 7})
	add := func(name, image string, policy corev1.PullPolicy) {
		r.api.Put(pod(name, corev1.Container{Name: "c", Image: image, ImagePullPolicy: policy}))
	}
	add("local-always", "web", corev1.PullAlways) // built here: this store is its origin
	add("far", "far:1", corev1.PullIfNotPresent)
	add("never", "none", corev1.PullNever)
	add("missing", "none", corev1.PullIfNotPresent)
	r.phase("local-always", corev1.PodRunning)
	r.phase("far", corev1.PodRunning)
	r.hasEvent("far", `Pulling: Pulling image "far:1"`)
	r.hasEvent("far", `Pulled: Successfully pulled image "far:1" in`)
	for name, want := range map[string]string{"never": "ErrImageNeverPull", "missing": "ImagePullBackOff"} {
		r.eventually(name+" has no image", func() error {
			cs := r.get(name).Status.ContainerStatuses
			if len(cs) == 0 || cs[0].State.Waiting == nil || cs[0].State.Waiting.Reason != want {
				return fmt.Errorf("%+v", cs)
			}
			return nil
		})
	}
	r.hasEvent("missing", `Failed: Failed to pull image "none": no such image: none`)
	r.hasEvent("missing", "Failed: Error: ErrImagePull")
	r.hasEvent("missing", `BackOff: Back-off pulling image "none"`)
	r.hasEvent("never", `ErrImageNeverPull: Container image "none" is not present with pull policy of Never`)
	if n := r.rt.Pulls(); n != 2 {
		t.Errorf("%d pulls, want 2", n)
	}
}

func TestInitContainersAndSidecars(t *testing.T) {
	r := newRig(t)
	r.rt.AddImage("web", kubelettest.UntilStopped)
	r.rt.AddImage("init", kubelettest.Exits(0))
	p := pod("web", corev1.Container{Name: "main"})
	always := corev1.ContainerRestartPolicyAlways
	p.Spec.InitContainers = pod("", corev1.Container{Name: "i1", Image: "init"}, corev1.Container{Name: "side", RestartPolicy: &always}, corev1.Container{Name: "i2", Image: "init"}).Spec.Containers
	r.api.Put(p)
	got := r.phase("web", corev1.PodRunning)
	var starts []string
	for _, c := range r.rt.Calls() {
		if s, ok := strings.CutPrefix(c, "start "); ok {
			starts = append(starts, s)
		}
	}
	if !slices.Equal(starts, []string{"i1", "side", "i2", "main"}) {
		t.Errorf("started %v", starts)
	}
	if s := got.Status.InitContainerStatuses; s[0].State.Terminated == nil || s[0].State.Terminated.Reason != "Completed" || !s[1].Ready || s[1].State.Running == nil {
		t.Errorf("init statuses %+v", s)
	}
	r.delete("web", 30)
	r.empty()
	var signals []string
	for _, c := range r.rt.Calls() {
		if s, ok := strings.CutPrefix(c, "signal "); ok {
			signals = append(signals, s)
		}
	}
	if !slices.Equal(signals, []string{"main 0", "side 0"}) {
		t.Errorf("the sidecar must outlive the containers: %v", signals)
	}
}

func TestStubbornContainerIsKilledAfterItsGrace(t *testing.T) {
	r := newRig(t)
	r.rt.AddImage("stubborn", func(ctx context.Context, _ *kubelettest.Process) int { <-ctx.Done(); return 137 })
	r.api.Put(pod("web", corev1.Container{Name: "c", Image: "stubborn"}))
	r.phase("web", corev1.PodRunning)
	began := time.Now()
	r.delete("web", 1)
	r.empty()
	if took := time.Since(began); took < time.Second || took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	calls := r.rt.Calls()
	if i, j := slices.Index(calls, "signal c 0"), slices.Index(calls, "signal c 9"); i < 0 || j < i {
		t.Errorf("calls %v", calls)
	}
}

func TestHooksAndProbes(t *testing.T) {
	r := newRig(t)
	r.rt.AddImage("web", kubelettest.UntilStopped)
	var mu sync.Mutex
	var ran []string
	sick := false
	r.rt.ExecFunc = func(_ context.Context, _ podruntime.ContainerSpec, e podruntime.ExecSpec, s podruntime.Stdio) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		if e.Args[0] == "live" {
			if sick {
				sick = false // once is enough: a second restart would wait for its back-off
				fmt.Fprint(s.Stdout, "feeling ill")
				return 1, nil
			}
			return 0, nil
		}
		ran = append(ran, e.Args[0])
		return 0, nil
	}
	do := func(cmd string) *corev1.LifecycleHandler {
		return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{cmd}}}
	}
	check := func(cmd string) *corev1.Probe {
		return &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 1, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{cmd}}}}
	}
	r.api.Put(pod("web", corev1.Container{Name: "c", Lifecycle: &corev1.Lifecycle{PostStart: do("post"), PreStop: do("pre")},
		LivenessProbe: check("live"), ReadinessProbe: check("ready"), StartupProbe: check("startup")}))
	r.phase("web", corev1.PodRunning)
	mu.Lock()
	if i, j, k := slices.Index(ran, "post"), slices.Index(ran, "startup"), slices.Index(ran, "ready"); i != 0 || j < i || k < j {
		t.Errorf("order was %v", ran)
	}
	sick = true
	mu.Unlock()
	r.hasEvent("web", "Unhealthy: Liveness probe failed: feeling ill")
	r.hasEvent("web", "Killing: Container c failed liveness probe, will be restarted")
	r.eventually("it is restarted", func() error {
		if cs := r.get("web").Status.ContainerStatuses[0]; cs.RestartCount != 1 || !cs.Ready || cs.LastTerminationState.Terminated == nil {
			return fmt.Errorf("%+v", cs)
		}
		return nil
	})
	mu.Lock() // the hook runs after the event and before the restart
	if !slices.Contains(ran, "pre") {
		t.Errorf("no preStop: %v", ran)
	}
	mu.Unlock()
}

func TestLostSandboxIsMadeAnew(t *testing.T) {
	r := newRig(t)
	r.rt.AddImage("web", kubelettest.UntilStopped)
	r.api.Put(pod("web", corev1.Container{Name: "c"}))
	before := r.phase("web", corev1.PodRunning)
	r.rt.LoseSandboxes()
	r.eventually("another sandbox", func() error {
		p := r.get("web")
		if p.Status.PodIP == before.Status.PodIP || p.Status.ContainerStatuses[0].RestartCount != 1 || !ready(p) {
			return fmt.Errorf("%+v", p.Status)
		}
		return nil
	})
}

func TestTerminationMessage(t *testing.T) {
	r := newRig(t)
	r.rt.AddImage("says", func(_ context.Context, p *kubelettest.Process) int {
		for _, m := range p.Spec.Mounts {
			if m.Target == "/dev/termination-log" {
				_ = os.WriteFile(m.Source, []byte("out of coffee"), 0o600)
			}
		}
		return 2
	})
	r.rt.AddImage("logs", func(_ context.Context, p *kubelettest.Process) int { p.Log("panic: no tea"); return 2 })
	for _, image := range []string{"says", "logs"} {
		p := pod(image, corev1.Container{Name: "c", Image: image, TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError})
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		r.api.Put(p)
	}
	for name, want := range map[string]string{"says": "out of coffee", "logs": "panic: no tea\n"} {
		if got := r.phase(name, corev1.PodFailed).Status.ContainerStatuses[0].State.Terminated.Message; got != want {
			t.Errorf("%s: message %q, want %q", name, got, want)
		}
	}
}

func TestNodeRefusesWhatItCannotHold(t *testing.T) {
	r := newRig(t)
	r.rt.AddImage("web", kubelettest.UntilStopped)
	big := pod("big", corev1.Container{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"memory": resource.MustParse("1Pi")}}})
	port := []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080}}
	sysctl := pod("sysctl", corev1.Container{Name: "c"})
	sysctl.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "kernel.core_pattern", Value: "|/x"}}}
	r.api.Put(pod("first", corev1.Container{Name: "c", Ports: port}))
	r.phase("first", corev1.PodRunning)
	r.api.Put(pod("second", corev1.Container{Name: "c", Ports: port}))
	r.api.Put(big)
	r.api.Put(sysctl)
	for name, reason := range map[string]string{"big": "OutOfmemory", "second": "NodePorts", "sysctl": "SysctlForbidden"} {
		if p := r.phase(name, corev1.PodFailed); p.Status.Reason != reason {
			t.Errorf("%s: reason %s (%s), want %s", name, p.Status.Reason, p.Status.Message, reason)
		}
	}
}

func TestActiveDeadline(t *testing.T) {
	r := newRig(t)
	r.rt.AddImage("web", kubelettest.UntilStopped)
	p := pod("web", corev1.Container{Name: "c"})
	p.Spec.ActiveDeadlineSeconds = ptr(int64(1))
	r.api.Put(p)
	if p := r.phase("web", corev1.PodFailed); p.Status.Reason != "DeadlineExceeded" || p.Status.ContainerStatuses[0].State.Terminated == nil {
		t.Errorf("%+v", p.Status)
	}
}

func TestServiceAccountTokenVolume(t *testing.T) {
	r := newRig(t)
	r.rt.AddImage("web", kubelettest.UntilStopped)
	p := pod("web", corev1.Container{Name: "c", VolumeMounts: []corev1.VolumeMount{{Name: "t", MountPath: "/t"}}})
	p.Spec.ServiceAccountName = "robot"
	p.Spec.Volumes = []corev1.Volume{{Name: "t", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr(int64(600))}}}}}}}
	r.api.Put(p)
	r.phase("web", corev1.PodRunning)
	spec, _ := r.rt.Spec("c")
	b, err := os.ReadFile(filepath.Join(spec.Mounts[0].Source, "token"))
	if err != nil || string(b) != "token-of-robot" {
		t.Errorf("token %q, %v", b, err)
	}
}

func TestNodeIsReadyAtOnceAndKeepsItsLease(t *testing.T) {
	began := time.Now()
	r := newRig(t)
	r.eventually("node Ready", func() error {
		n, ok := kubelettest.Get[corev1.Node](r.api, "", "n1")
		if !ok {
			return errors.New("no node")
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("%+v", n.Status.Conditions)
	})
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
	n, _ := kubelettest.Get[corev1.Node](r.api, "", "n1")
	if len(n.Spec.Taints) > 0 || n.Labels["kubernetes.io/hostname"] != "n1" || n.Status.NodeInfo.KernelVersion == "" || n.Status.Capacity.Cpu().IsZero() ||
		n.Status.Allocatable.Pods().Value() != 110 || !strings.HasPrefix(n.Status.NodeInfo.KubeletVersion, "v1.37.") {
		t.Errorf("node is %+v", n)
	}
	r.eventually("lease", func() error {
		l, ok := kubelettest.Get[coordinationv1.Lease](r.api, "kube-node-lease", "n1")
		if !ok || l.Spec.RenewTime == nil || len(l.OwnerReferences) != 1 {
			return fmt.Errorf("%+v", l)
		}
		return nil
	})
}

// The API server may be away for long: containers go on, and are reported when it is back.
func TestAPIOutage(t *testing.T) {
	r := newRig(t)
	release := make(chan struct{})
	r.rt.AddImage("waits", func(ctx context.Context, _ *kubelettest.Process) int {
		select {
		case <-release:
			return 5
		case <-ctx.Done():
			return 137
		}
	})
	p := pod("web", corev1.Container{Name: "c", Image: "waits"})
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	r.api.Put(p)
	r.phase("web", corev1.PodRunning)
	r.api.SetDown(errors.New("connection refused"))
	close(release)
	<-time.After(100 * time.Millisecond)
	r.api.SetDown(nil)
	if p := r.phase("web", corev1.PodFailed); p.Status.ContainerStatuses[0].State.Terminated.ExitCode != 5 {
		t.Errorf("%+v", p.Status)
	}
}
