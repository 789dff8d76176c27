// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/knarr/knarr/kubelet/podruntime"
)

// world is a node that does what Decide says, by the book and without a clock of its own.
type world struct {
	t   interface{ Fatalf(string, ...any) }
	now time.Time
	pod *corev1.Pod
	mem Memory
	box []podruntime.Sandbox
	run []podruntime.Container
	ids int
	// what goes wrong next
	volumesFail, sandboxFails, imageMissing bool
	forgotten                               bool
	starts                                  int
	events                                  []string
}

func newWorld(t interface{ Fatalf(string, ...any) }, p *corev1.Pod) *world {
	w := &world{t: t, now: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), pod: p}
	w.restartKubelet()
	return w
}

// restartKubelet forgets all that is only in memory.
func (w *world) restartKubelet() {
	had := w.mem.HasDir
	w.mem = Memory{FirstSeen: w.now, HasDir: had, Pulls: map[string]Pull{}, Stops: map[string]Stop{}, Hooks: map[string]Hook{}, Probes: map[string]Probes{},
		Messages: map[string]string{}, Faults: map[string]Fault{}, Announced: map[string]bool{}}
	w.mem.Volumes.Any = had
}

func (w *world) state() *State {
	s := &State{UID: "u1", Namespace: "shop", Name: "web", Pod: w.pod, Containers: slices.Clone(w.run), Memory: w.mem, NodeIPs: []string{"10.0.0.1"}, Now: w.now}
	s.Pulls, s.Stops, s.Hooks, s.Probes = maps.Clone(w.mem.Pulls), maps.Clone(w.mem.Stops), maps.Clone(w.mem.Hooks), maps.Clone(w.mem.Probes)
	s.Faults, s.Announced = maps.Clone(w.mem.Faults), maps.Clone(w.mem.Announced)
	for i := range w.box {
		if s.Sandbox == nil || SandboxAttempt(w.box[i].ID) > SandboxAttempt(s.Sandbox.ID) {
			if s.Sandbox != nil {
				s.Old = append(s.Old, *s.Sandbox)
			}
			b := w.box[i]
			s.Sandbox = &b
		} else {
			s.Old = append(s.Old, w.box[i])
		}
	}
	return s
}

// settle runs passes until the plan is empty, as the worker does; it answers when to look again.
func (w *world) settle() time.Duration {
	for range 60 {
		if w.forgotten {
			return 0
		}
		s := w.state()
		p := Decide(s)
		if len(p.Actions) == 0 {
			if w.pod != nil {
				w.pod = w.pod.DeepCopy()
				w.pod.Status = Status(s)
			}
			return p.Again
		}
		for _, a := range p.Actions {
			if _, ok := a.(DeleteObject); ok {
				w.pod.Status = Status(s)
			}
			if !w.apply(s, a) {
				break
			}
		}
	}
	w.t.Fatalf("Decide does not converge; next would be %+v", Decide(w.state()).Actions)
	return 0
}

func (w *world) apply(s *State, a Action) (ok bool) {
	switch a := a.(type) {
	case MakeDir:
		w.mem.HasDir = true
	case RemoveDir:
		w.mem.HasDir = false
	case MountVolumes:
		if w.volumesFail {
			w.mem.Volumes.Fault = &Fault{At: w.now, Retry: w.now.Add(time.Second)}
			return false
		}
		w.mem.Volumes = Volumes{Mounted: true, Any: true}
	case UnmountVolumes:
		if slices.ContainsFunc(w.run, func(c podruntime.Container) bool { return c.State == podruntime.Running }) {
			w.t.Fatalf("volumes are unmounted under running containers")
		}
		w.mem.Volumes = Volumes{}
	case EnsureSandbox:
		if w.sandboxFails {
			w.mem.Faults[""] = Fault{At: w.now, Retry: w.now.Add(5 * time.Second)}
			return false
		}
		if !w.mem.Volumes.Mounted {
			w.t.Fatalf("a sandbox before the volumes")
		}
		w.ids++
		w.box = append(w.box, podruntime.Sandbox{ID: SandboxID("u1", a.Attempt), Ready: true, IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 42, 0, byte(w.ids)})}})
	case RemoveSandbox:
		for _, c := range w.run {
			if c.Sandbox == a.ID && c.State == podruntime.Running {
				w.t.Fatalf("sandbox %s removed under %s", a.ID, c.ID)
			}
		}
		w.box = slices.DeleteFunc(w.box, func(b podruntime.Sandbox) bool { return b.ID == a.ID })
	case LookForImage:
		p := Pull{Image: a.Image, Attempt: a.Attempt, ImageID: "sha256:" + a.Image}
		if w.imageMissing {
			p.ImageID = ""
		}
		w.mem.Pulls[a.Container] = p
	case PullImage:
		w.mem.Pulls[a.Container] = Pull{Image: a.Image, Attempt: a.Attempt, Fault: &Fault{Reason: ErrImagePull, At: w.now, Retry: w.now.Add(10 * time.Second)}}
	case FailImage:
		p := w.mem.Pulls[a.Container]
		p.Fault = &Fault{Reason: ErrImageNeverPull, At: w.now, Retry: w.now.Add(10 * time.Second)}
		w.mem.Pulls[a.Container] = p
	case StartContainer:
		w.start(s, a)
	case BeginStop:
		w.mem.Stops[a.ID] = Stop{Since: w.now, Grace: a.Grace}
	case PreStop:
		st := w.mem.Stops[a.ID]
		st.HookStarted, st.HookDone = true, true
		w.mem.Stops[a.ID] = st
	case Signal:
		st := w.mem.Stops[a.ID]
		if a.Signal == 0 {
			st.Signalled = w.now
		} else {
			st.Killed = true
			w.exit(a.ID, 137)
		}
		w.mem.Stops[a.ID] = st
	case RemoveContainer:
		w.run = slices.DeleteFunc(w.run, func(c podruntime.Container) bool {
			if c.ID == a.ID && c.State == podruntime.Running {
				w.t.Fatalf("%s is removed while it runs", c.ID)
			}
			return c.ID == a.ID
		})
	case Event:
		w.mem.Announced[a.Key] = true
		w.events = append(w.events, a.Reason)
	case DeleteObject:
		if len(w.box) > 0 || slices.ContainsFunc(w.run, func(c podruntime.Container) bool { return c.State == podruntime.Running }) {
			w.t.Fatalf("the object goes before the containers")
		}
		w.pod = nil
	case Forget:
		if len(w.box)+len(w.run) > 0 || w.mem.HasDir {
			w.t.Fatalf("forgotten with %v %v %v left", w.box, w.run, w.mem.HasDir)
		}
		w.forgotten = true
	default:
		w.t.Fatalf("action %T", a)
	}
	return true
}

func (w *world) start(s *State, a StartContainer) {
	if w.pod == nil || w.pod.DeletionTimestamp != nil {
		w.t.Fatalf("%s is started for a pod that goes", a.Container)
	}
	box := s.Sandbox
	if box == nil || !box.Ready || !slices.ContainsFunc(w.box, func(b podruntime.Sandbox) bool { return b.ID == box.ID && b.Ready }) {
		w.t.Fatalf("%s is started without a sandbox", a.Container)
	}
	for _, c := range w.run {
		if c.Labels[podruntime.LabelContainerName] == a.Container && c.State != podruntime.Exited {
			w.t.Fatalf("a second %s", a.Container)
		}
		if c.Labels[podruntime.LabelContainerName] == a.Container && Attempt(&c) >= a.Attempt {
			w.t.Fatalf("attempt %d of %s after %d", a.Attempt, a.Container, Attempt(&c))
		}
	}
	spec, _, _ := FindContainer(w.pod, a.Container)
	w.ids++
	w.starts++
	w.run = append(w.run, podruntime.Container{ID: strconv.Itoa(w.ids), Sandbox: box.ID, State: podruntime.Running, Created: w.now, StartedAt: w.now, ImageRef: spec.Image,
		Labels: map[string]string{podruntime.LabelContainerName: a.Container, podruntime.LabelAttempt: strconv.Itoa(a.Attempt),
			podruntime.LabelBackoff: a.Backoff.String(), podruntime.LabelSpecHash: SpecHash(spec), podruntime.LabelKind: string(a.Kind)}})
}

func (w *world) exit(id string, code int) {
	for i := range w.run {
		if c := &w.run[i]; c.ID == id && c.State == podruntime.Running {
			c.State, c.ExitCode, c.FinishedAt = podruntime.Exited, code, w.now
		}
	}
}

// running are the names that run, sorted.
func (w *world) running() []string {
	var out []string
	for _, c := range w.run {
		if c.State == podruntime.Running {
			out = append(out, c.Labels[podruntime.LabelContainerName])
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) end(name string, code int) {
	for _, c := range w.run {
		if c.Labels[podruntime.LabelContainerName] == name {
			w.exit(c.ID, code)
		}
	}
}

func (w *world) pass(d time.Duration) time.Duration {
	w.now = w.now.Add(d)
	return w.settle()
}

func testPod(names ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u1", Generation: 3},
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways}, Status: corev1.PodStatus{Phase: corev1.PodPending}}
	for _, n := range names {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: n, Image: "img-" + n})
	}
	return p
}

// Whatever happens to a pod and its kubelet, passes end, the world's rules hold, and a deletion leaves nothing.
func TestDecideConvergesInEveryWorld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := testPod("a", "b")
		p.Spec.RestartPolicy = rapid.SampledFrom([]corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}).Draw(t, "policy")
		always := corev1.ContainerRestartPolicyAlways
		for i := range rapid.IntRange(0, 3).Draw(t, "inits") {
			c := corev1.Container{Name: fmt.Sprintf("i%d", i), Image: "init"}
			if rapid.Bool().Draw(t, "sidecar") {
				c.RestartPolicy = &always
			}
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		}
		if rapid.Bool().Draw(t, "hook") {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1}}}
		}
		p.Spec.Containers[1].ImagePullPolicy = rapid.SampledFrom([]corev1.PullPolicy{corev1.PullIfNotPresent, corev1.PullNever}).Draw(t, "pull")
		w := newWorld(t, p)
		w.settle()
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			w.disturb(t)
			w.settle()
			if w.pod != nil && w.pod.DeletionTimestamp == nil {
				checkStatus(t, w)
			}
		}
		w.mend()
		if w.pod != nil {
			at, grace := metav1.NewTime(w.now), int64(3)
			w.pod.DeletionTimestamp, w.pod.DeletionGracePeriodSeconds = &at, &grace
		}
		for range 40 {
			w.pass(time.Second)
		}
		if !w.forgotten {
			t.Fatalf("after the deletion: %+v", Decide(w.state()))
		}
	})
}

func (w *world) mend() { w.volumesFail, w.sandboxFails, w.imageMissing = false, false, false }

// disturb lets one thing happen.
func (w *world) disturb(t *rapid.T) {
	switch rapid.SampledFrom([]string{"exit", "exit", "exit", "time", "time", "restart", "reboot", "sandbox", "volumes", "images", "liveness", "spec", "stale", "lost", "mend"}).Draw(t, "what") {
	case "exit":
		if r := w.running(); len(r) > 0 {
			w.end(rapid.SampledFrom(r).Draw(t, "who"), rapid.SampledFrom([]int{0, 0, 1}).Draw(t, "code"))
		}
	case "time":
		w.now = w.now.Add(time.Duration(rapid.SampledFrom([]int{1, 10, 60, 700}).Draw(t, "seconds")) * time.Second)
	case "restart":
		w.restartKubelet()
	case "reboot":
		for i := range w.box {
			w.box[i].Ready = false
		}
		for _, c := range w.run {
			w.exit(c.ID, 255)
		}
		w.restartKubelet()
	case "lost": // the sandbox vanishes while its containers run
		w.box = nil
	case "sandbox":
		w.sandboxFails = rapid.Bool().Draw(t, "fails")
	case "volumes":
		w.volumesFail = rapid.Bool().Draw(t, "fails")
	case "images":
		w.imageMissing = rapid.Bool().Draw(t, "missing")
	case "liveness":
		for _, c := range w.run {
			if c.State == podruntime.Running {
				w.mem.Probes[c.ID] = Probes{Started: true, Failed: "Liveness"}
				return
			}
		}
	case "spec":
		w.pod = w.pod.DeepCopy()
		w.pod.Spec.Containers[0].Image += "x"
	case "stale":
		w.mem.Volumes.Stale = true
	case "mend":
		w.mend()
	}
}

// checkStatus: what is said of a pod fits together and with what runs.
func checkStatus(t *rapid.T, w *world) {
	st := w.pod.Status
	running := w.running()
	for _, cs := range st.ContainerStatuses {
		set := 0
		for _, on := range []bool{cs.State.Waiting != nil, cs.State.Running != nil, cs.State.Terminated != nil} {
			if on {
				set++
			}
		}
		if set != 1 || (cs.State.Running != nil) != slices.Contains(running, cs.Name) || cs.Ready && cs.State.Running == nil {
			t.Fatalf("status %+v while %v run", cs, running)
		}
	}
	if (st.Phase == corev1.PodSucceeded || st.Phase == corev1.PodFailed) && len(running) > 0 {
		t.Fatalf("phase %s while %v run", st.Phase, running)
	}
	if st.Phase == corev1.PodRunning && st.PodIP == "" {
		t.Fatalf("running without an address")
	}
	for _, c := range st.Conditions {
		if c.LastTransitionTime.IsZero() {
			t.Fatalf("%s has no transition time", c.Type)
		}
	}
}
