// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kubelet/podruntime"
)

func ptr[T any](v T) *T { return &v }

// do lists what Decide would do, one word an action.
func (w *world) plan() string {
	var out []string
	for _, a := range Decide(w.state()).Actions {
		s := strings.TrimPrefix(fmt.Sprintf("%T", a), "lifecycle.")
		switch a := a.(type) {
		case StartContainer:
			s += " " + a.Container
		case BeginStop:
			s += " " + a.Container
		case Signal:
			s += fmt.Sprintf(" %d", a.Signal)
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func TestBackoffDoublesAndIsForgotten(t *testing.T) {
	w := newWorld(t, testPod("a"))
	w.settle()
	for i, want := range []int{0, 10, 20, 40, 80, 160, 300, 300} {
		w.now = w.now.Add(time.Second)
		w.end("a", 1)
		again := w.settle()
		if want == 0 {
			if w.starts != 2 {
				t.Fatalf("the first end is followed by a start at once; %d starts", w.starts)
			}
			continue
		}
		if again != time.Duration(want)*time.Second {
			t.Errorf("end %d: again in %v, want %ds", i, again, want)
		}
		cs := w.pod.Status.ContainerStatuses[0]
		msg := fmt.Sprintf("back-off %s restarting failed container=a pod=web_shop(u1)", time.Duration(want)*time.Second)
		if cs.State.Waiting == nil || cs.State.Waiting.Reason != "CrashLoopBackOff" || cs.State.Waiting.Message != msg || cs.RestartCount != int32(i) {
			t.Errorf("end %d: %+v", i, cs)
		}
		if i == 3 {
			w.restartKubelet() // changes nothing: the delay is on the container
			if got := w.settle(); got != again {
				t.Errorf("after a restart of the kubelet: again in %v, want %v", got, again)
			}
		}
		w.pass(again - time.Millisecond)
		if r := w.running(); len(r) > 0 {
			t.Fatalf("end %d: started too early", i)
		}
		w.pass(time.Millisecond)
		if r := w.running(); len(r) != 1 {
			t.Fatalf("end %d: not started", i)
		}
	}
	w.now = w.now.Add(11 * time.Minute)
	w.end("a", 1)
	w.settle()
	if r := w.running(); len(r) != 1 {
		t.Error("a long run is followed by a start at once")
	}
	if n := w.pod.Status.ContainerStatuses[0].RestartCount; n != 9 {
		t.Errorf("restart count %d", n)
	}
}

func TestWhoIsRestarted(t *testing.T) {
	never := corev1.ContainerRestartPolicyNever
	for _, x := range []struct {
		pod   corev1.RestartPolicy
		own   *corev1.ContainerRestartPolicy
		rules []corev1.ContainerRestartRule
		code  int
		want  bool
	}{
		{corev1.RestartPolicyAlways, nil, nil, 0, true},
		{corev1.RestartPolicyAlways, nil, nil, 1, true},
		{corev1.RestartPolicyOnFailure, nil, nil, 0, false},
		{corev1.RestartPolicyOnFailure, nil, nil, 1, true},
		{corev1.RestartPolicyNever, nil, nil, 1, false},
		{corev1.RestartPolicyAlways, &never, nil, 1, false},
		{corev1.RestartPolicyAlways, &never, rule(corev1.ContainerRestartRuleOnExitCodesOpIn, 42), 42, true},
		{corev1.RestartPolicyAlways, &never, rule(corev1.ContainerRestartRuleOnExitCodesOpIn, 42), 1, false},
		{corev1.RestartPolicyAlways, &never, rule(corev1.ContainerRestartRuleOnExitCodesOpNotIn, 42), 1, true},
	} {
		p := testPod("a")
		p.Spec.RestartPolicy = x.pod
		p.Spec.Containers[0].RestartPolicy, p.Spec.Containers[0].RestartPolicyRules = x.own, x.rules
		w := newWorld(t, p)
		w.settle()
		w.end("a", x.code)
		w.settle()
		phase := corev1.PodRunning
		if !x.want {
			phase = map[bool]corev1.PodPhase{true: corev1.PodSucceeded, false: corev1.PodFailed}[x.code == 0]
		}
		if got := len(w.running()) == 1; got != x.want || w.pod.Status.Phase != phase {
			t.Errorf("%+v: restarted %v, phase %s", x, got, w.pod.Status.Phase)
		}
		if !x.want && (len(w.box) > 0 || w.mem.Volumes.Any || len(w.run) != 1) {
			t.Errorf("%+v: a pod that has ended holds %v %v, and %d containers", x, w.box, w.mem.Volumes, len(w.run))
		}
	}
}

func rule(op corev1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) []corev1.ContainerRestartRule {
	return []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestart, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: op, Values: codes}}}
}

func TestInitContainersRunInOrderAndOnce(t *testing.T) {
	p := testPod("a")
	always := corev1.ContainerRestartPolicyAlways
	p.Spec.InitContainers = []corev1.Container{{Name: "i1", Image: "i"}, {Name: "side", Image: "s", RestartPolicy: &always, StartupProbe: &corev1.Probe{}}, {Name: "i2", Image: "i"}}
	w := newWorld(t, p)
	w.settle()
	expect := func(want ...string) {
		t.Helper()
		if got := w.running(); !slices.Equal(got, want) {
			t.Fatalf("running %v, want %v; next %s", got, want, w.plan())
		}
	}
	expect("i1")
	if c := cond(w, corev1.PodInitialized); c.Status != corev1.ConditionFalse || c.Message != "containers with incomplete status: [i1 side i2]" {
		t.Errorf("%+v", c)
	}
	if s := w.pod.Status.ContainerStatuses[0].State.Waiting; s == nil || s.Reason != "PodInitializing" {
		t.Errorf("%+v", s)
	}
	w.end("i1", 1) // an init container of an Always pod is tried again
	w.settle()
	expect("i1")
	w.end("i1", 0)
	w.settle()
	expect("side")
	w.mem.Probes[w.run[len(w.run)-1].ID] = Probes{Started: true}
	w.settle()
	expect("i2", "side")
	w.end("i2", 0)
	w.settle()
	expect("a", "side")
	if c := cond(w, corev1.PodInitialized); c.Status != corev1.ConditionTrue {
		t.Errorf("%+v", c)
	}
	w.end("side", 1) // comes back while the others run
	w.settle()
	expect("a", "side")
	starts := w.starts
	for i := range w.box { // another sandbox: all over again
		w.box[i].Ready = false
	}
	w.end("a", 255)
	w.end("side", 255)
	w.settle()
	expect("i1")
	if w.starts != starts+1 {
		t.Errorf("%d starts", w.starts-starts)
	}
}

func cond(w *world, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range w.pod.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

func TestFailedInitContainerFailsANeverPod(t *testing.T) {
	p := testPod("a")
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i"}}
	w := newWorld(t, p)
	w.settle()
	w.end("i", 3)
	w.settle()
	if w.pod.Status.Phase != corev1.PodFailed || len(w.running()) > 0 {
		t.Errorf("%+v", w.pod.Status)
	}
}

func TestStopTakesItsSteps(t *testing.T) {
	p := testPod("a")
	p.Spec.TerminationGracePeriodSeconds = ptr(int64(20))
	p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1}}}
	w := newWorld(t, p)
	w.settle()
	at := metav1.NewTime(w.now.Add(5 * time.Second))
	w.pod.DeletionTimestamp, w.pod.DeletionGracePeriodSeconds = &at, ptr(int64(5)) // shorter than the spec's
	id := w.run[0].ID
	step := func(want string) {
		t.Helper()
		if got := w.plan(); got != want {
			t.Fatalf("plan %q, want %q", got, want)
		}
		s := w.state()
		for _, a := range Decide(s).Actions {
			w.apply(s, a)
		}
	}
	step("BeginStop a")
	if g := w.mem.Stops[id].Grace; g != 5*time.Second {
		t.Errorf("grace %v", g)
	}
	step("PreStop")
	st := w.mem.Stops[id]
	st.HookDone = false // it takes its time
	w.mem.Stops[id] = st
	step("")
	w.now = w.now.Add(5 * time.Second)
	step("Signal 0") // the grace is spent
	step("")
	if again := Decide(w.state()).Again; again != 2*time.Second {
		t.Errorf("after a hook that took all the grace there are %v left, want 2s", again)
	}
	w.now = w.now.Add(2 * time.Second)
	step("Signal 9")
	step("RemoveSandbox, UnmountVolumes")
	step("DeleteObject")
	step("RemoveContainer, RemoveDir")
	step("Forget")
}

func TestFinalizersAreWaitedFor(t *testing.T) {
	w := newWorld(t, testPod("a"))
	now := metav1.NewTime(w.now)
	w.pod.DeletionTimestamp, w.pod.DeletionGracePeriodSeconds, w.pod.Finalizers = &now, ptr(int64(1)), []string{"x"}
	if got := w.plan(); got != "DeleteObject" {
		t.Fatal(got)
	}
	w.pod.DeletionGracePeriodSeconds = ptr(int64(0))
	if got := w.plan(); got != "" {
		t.Fatal(got)
	}
}

func TestDeadline(t *testing.T) {
	p := testPod("a")
	p.Spec.ActiveDeadlineSeconds = ptr(int64(60))
	w := newWorld(t, p)
	w.settle()
	if again := w.settle(); again != time.Minute {
		t.Errorf("again in %v", again)
	}
	w.pass(time.Minute)
	if w.pod.Status.Phase != corev1.PodRunning {
		t.Errorf("phase %s while the container still ends", w.pod.Status.Phase)
	}
	w.pass(30 * time.Second)
	if st := w.pod.Status; st.Phase != corev1.PodFailed || st.Reason != "DeadlineExceeded" || len(w.running()) > 0 {
		t.Errorf("%+v", st)
	}
}

func TestRejectedPodNeverStarts(t *testing.T) {
	w := newWorld(t, testPod("a"))
	w.mem.Rejected = &Rejection{"OutOfcpu", "Pod was rejected: no"}
	w.settle()
	if st := w.pod.Status; st.Phase != corev1.PodFailed || st.Reason != "OutOfcpu" || w.starts > 0 {
		t.Errorf("%+v", st)
	}
}

func TestImageFaultsInStatus(t *testing.T) {
	w := newWorld(t, testPod("a"))
	w.imageMissing = true
	reason := func() string {
		if s := w.pod.Status.ContainerStatuses[0].State.Waiting; s != nil {
			return s.Reason + ": " + s.Message
		}
		return ""
	}
	w.settle()
	if got := reason(); got != "ErrImagePull: " {
		t.Error(got)
	}
	w.pass(2 * time.Second)
	if got := reason(); got != `ImagePullBackOff: Back-off pulling image "img-a": ErrImagePull: ` || !slices.Contains(w.events, "BackOff") {
		t.Error(got, w.events)
	}
	w.imageMissing = false // loaded meanwhile
	w.pass(8 * time.Second)
	if len(w.running()) != 1 {
		t.Error(w.plan())
	}
}

func TestStartErrorIsSpacedAndShown(t *testing.T) {
	w := newWorld(t, testPod("a"))
	w.settle()
	c := &w.run[0]
	c.State, c.StartedAt, c.FinishedAt, c.Error, c.ExitCode = podruntime.Exited, time.Time{}, w.now, `exec: "nope": not found`, 127
	again := w.settle()
	cs := w.pod.Status.ContainerStatuses[0]
	if again != 10*time.Second || cs.State.Waiting == nil || cs.State.Waiting.Reason != "RunContainerError" || cs.State.Waiting.Message != c.Error ||
		cs.LastTerminationState.Terminated == nil || cs.LastTerminationState.Terminated.Reason != "StartError" {
		t.Errorf("again in %v: %+v", again, cs)
	}
}

func TestTerminatedReasons(t *testing.T) {
	for reason, c := range map[string]podruntime.Container{
		"Completed": {ExitCode: 0}, "Error": {ExitCode: 1}, "OOMKilled": {ExitCode: 137, OOMKilled: true, Signal: 9},
	} {
		p := testPod("a")
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		w := newWorld(t, p)
		w.settle()
		w.run[0].OOMKilled, w.run[0].Signal = c.OOMKilled, c.Signal
		w.end("a", c.ExitCode)
		w.settle()
		got := w.pod.Status.ContainerStatuses[0].State.Terminated
		if got == nil || got.Reason != reason || got.ExitCode != int32(c.ExitCode) || got.Signal != int32(c.Signal) || got.FinishedAt.IsZero() || got.ContainerID != "knarr://"+w.run[0].ID {
			t.Errorf("%s: %+v", reason, got)
		}
	}
}

func TestReadiness(t *testing.T) {
	p := testPod("a", "b")
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{}
	p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "lb"}}
	w := newWorld(t, p)
	w.settle()
	if c := cond(w, corev1.PodReady); c.Status != corev1.ConditionFalse || c.Reason != "ContainersNotReady" || c.Message != "containers with unready status: [a]" || c.ObservedGeneration != 3 {
		t.Errorf("%+v", c)
	}
	since := cond(w, corev1.PodReady).LastTransitionTime
	w.mem.Probes[w.run[0].ID] = Probes{Ready: true, Started: true}
	w.pass(time.Minute)
	if c := cond(w, corev1.ContainersReady); c.Status != corev1.ConditionTrue {
		t.Errorf("%+v", c)
	}
	if c := cond(w, corev1.PodReady); c.Reason != "ReadinessGatesNotReady" || !c.LastTransitionTime.Equal(&since) {
		t.Errorf("%+v", c)
	}
	w.pod.Status.Conditions = append(w.pod.Status.Conditions, corev1.PodCondition{Type: "lb", Status: corev1.ConditionTrue})
	w.pass(time.Minute)
	if c := cond(w, corev1.PodReady); c.Status != corev1.ConditionTrue || c.LastTransitionTime.Equal(&since) {
		t.Errorf("%+v", c)
	}
	if c := cond(w, "lb"); c.Status != corev1.ConditionTrue {
		t.Error("a foreign condition is lost")
	}
}

func TestChangedImageReplacesTheContainer(t *testing.T) {
	w := newWorld(t, testPod("a", "b"))
	w.settle()
	w.pod.Spec.Containers[0].Image = "new"
	if got := w.plan(); got != "BeginStop a" {
		t.Fatal(got)
	}
	w.settle()
	w.end("a", 0)
	w.settle()
	cs := w.pod.Status.ContainerStatuses[0]
	if cs.RestartCount != 1 || cs.Image != "new" || w.pod.Status.ContainerStatuses[1].RestartCount != 0 {
		t.Errorf("%+v", w.pod.Status.ContainerStatuses)
	}
}

func TestLostContainersAreCountedOnFromTheStatus(t *testing.T) {
	w := newWorld(t, testPod("a"))
	w.settle()
	w.end("a", 1)
	w.settle()
	w.run, w.box = nil, nil // the engine's folder is gone
	w.restartKubelet()
	w.settle()
	if cs := w.pod.Status.ContainerStatuses[0]; cs.RestartCount != 2 || cs.State.Running == nil {
		t.Errorf("%+v", cs)
	}
}

func TestNeedsPull(t *testing.T) {
	for _, x := range []struct {
		policy               corev1.PullPolicy
		present, local, want bool
	}{
		{corev1.PullAlways, true, false, true}, {corev1.PullAlways, true, true, false}, {corev1.PullAlways, false, false, true},
		{corev1.PullIfNotPresent, true, false, false}, {corev1.PullIfNotPresent, false, false, true}, {corev1.PullNever, false, false, true},
	} {
		if got := NeedsPull(x.policy, x.present, x.local); got != x.want {
			t.Errorf("%+v", x)
		}
	}
}
