// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/kubelet/lifecycle"
	"github.com/knarr/knarr/kubelet/podspec"
	"github.com/knarr/knarr/kubelet/volume"
)

// errRemembered ends a pass after a failure that is part of the state now: Decide knows when to try again.
var errRemembered = errors.New("remembered")

// stepTimeout bounds one action against the runtime, so that a stuck one is tried again and said.
const stepTimeout = 2 * time.Minute

func actionName(a lifecycle.Action) string {
	return strings.TrimPrefix(fmt.Sprintf("%T", a), "lifecycle.")
}

// apply does one action.
func (w *worker) apply(ctx context.Context, s *lifecycle.State, a lifecycle.Action) error {
	step, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	switch a := a.(type) {
	case lifecycle.MakeDir:
		return w.makeDir(s.Pod)
	case lifecycle.MountVolumes:
		return w.mountVolumes(step, s)
	case lifecycle.UnmountVolumes:
		if err := volume.TearDown(w.k.podDir(w.uid)); err != nil {
			return err
		}
		w.change(func(m *lifecycle.Memory) { m.Volumes = lifecycle.Volumes{} })
		return nil
	case lifecycle.EnsureSandbox:
		return w.ensureSandbox(step, s, a)
	case lifecycle.RemoveSandbox:
		return w.k.rt.RemoveSandbox(step, a.ID)
	case lifecycle.LookForImage:
		return w.lookForImage(step, s, a)
	case lifecycle.PullImage:
		w.pullImage(ctx, s, a)
		return nil
	case lifecycle.FailImage:
		w.failImage(s, a)
		return nil
	case lifecycle.StartContainer:
		return w.startContainer(ctx, step, s, a)
	case lifecycle.BeginStop:
		w.beginStop(s, a)
		return nil
	case lifecycle.PreStop:
		w.preStop(ctx, s, a)
		return nil
	case lifecycle.Signal:
		return w.signal(step, a)
	case lifecycle.RemoveContainer:
		return w.k.rt.RemoveContainer(step, a.ID)
	case lifecycle.Event:
		w.eventOn(s.Pod, a.Container, a.Type, a.Reason, a.Message)
		w.change(func(m *lifecycle.Memory) { m.Announced[a.Key] = true })
		return nil
	case lifecycle.DeleteObject:
		return w.deleteObject(ctx, s.Pod)
	case lifecycle.RemoveDir:
		return w.removeDir()
	}
	return fmt.Errorf("action %T is not known", a) // an action was added here and not above
}

// change is update from the worker itself: no need to wake.
func (w *worker) change(f func(*lifecycle.Memory)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.mem)
}

// eventOn records an event of the pod, or of one of its containers. A pod without object has none.
func (w *worker) eventOn(p *corev1.Pod, container, kind, reason, message string) {
	if p == nil {
		return
	}
	path := ""
	if container != "" {
		_, k, _ := lifecycle.FindContainer(p, container)
		list := map[lifecycle.Kind]string{lifecycle.Init: "initContainers", lifecycle.Main: "containers", lifecycle.Ephemeral: "ephemeralContainers"}[k]
		path = fmt.Sprintf("spec.%s{%s}", list, container)
	}
	w.k.events.EventAt(p, path, kind, reason, message)
}

func (w *worker) makeDir(p *corev1.Pod) error {
	if err := os.MkdirAll(w.k.podDir(w.uid), 0o750); err != nil {
		return err
	}
	if err := os.MkdirAll(podspec.LogDir(w.k.view, p), 0o755); err != nil {
		return err
	}
	w.change(func(m *lifecycle.Memory) { m.HasDir = true })
	return nil
}

// removeDir removes the pod's logs and its folder. The volumes have been unmounted; it crosses no mount.
func (w *worker) removeDir() error {
	if err := volume.TearDown(w.k.podDir(w.uid)); err != nil {
		return err
	}
	logs, err := filepath.Glob(filepath.Join(w.k.cfg.LogDir, "*_"+string(w.uid)))
	if err != nil {
		return err
	}
	for _, dir := range logs {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	// Last of all: the folder is the sign that something is left, should we be cut off.
	if err := os.RemoveAll(w.k.podDir(w.uid)); err != nil {
		return err
	}
	w.change(func(m *lifecycle.Memory) { m.HasDir = false })
	return nil
}

// volumeRetry is how long a failed volume waits when nothing it is made from changes.
func volumeRetry(prev *lifecycle.Fault) time.Duration {
	wait := 500 * time.Millisecond
	if prev != nil {
		wait = 2 * prev.Retry.Sub(prev.At)
	}
	return min(max(wait, 500*time.Millisecond), 2*time.Minute)
}

func (w *worker) mountVolumes(ctx context.Context, s *lifecycle.State) error {
	w.change(func(m *lifecycle.Memory) { m.Volumes.Stale, m.Volumes.Any = false, true })
	pod := w.podWithAddresses(s)
	paths, again, err := volume.SetUp(ctx, pod, w.k.podDir(w.uid), w.k.sources())
	if err == nil {
		w.paths = paths
		w.change(func(m *lifecycle.Memory) {
			m.Volumes = lifecycle.Volumes{Mounted: true, Any: len(pod.Spec.Volumes) > 0, Again: again, Stale: m.Volumes.Stale}
		})
		return nil
	}
	now := time.Now()
	w.change(func(m *lifecycle.Memory) {
		m.Volumes.Fault = &lifecycle.Fault{Reason: "FailedMount", Message: err.Error(), At: now, Retry: now.Add(volumeRetry(m.Volumes.Fault))}
		if m.Volumes.Mounted {
			m.Volumes.Stale = true // what is there stays, and is brought up to date later
		}
	})
	for _, e := range unjoin(err) {
		w.eventOn(s.Pod, "", corev1.EventTypeWarning, "FailedMount", e.Error())
	}
	return errRemembered
}

// unjoin takes errors.Join apart.
func unjoin(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

// podWithAddresses is the pod with the addresses it has now, for status.podIP before any status was written.
func (w *worker) podWithAddresses(s *lifecycle.State) *corev1.Pod {
	p := *s.Pod
	p.Status = lifecycle.Status(s)
	return &p
}

func (w *worker) ensureSandbox(ctx context.Context, s *lifecycle.State, a lifecycle.EnsureSandbox) error {
	spec, err := podspec.Sandbox(s.Pod, w.k.view, a.Attempt)
	if err == nil {
		_, err = w.k.rt.EnsureSandbox(ctx, spec)
	}
	if err != nil {
		now := time.Now()
		w.change(func(m *lifecycle.Memory) {
			m.Faults[""] = lifecycle.Fault{Reason: "FailedCreatePodSandBox", Message: err.Error(), At: now, Retry: now.Add(5 * time.Second)}
		})
		w.eventOn(s.Pod, "", corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: "+err.Error())
		return errRemembered
	}
	if a.Attempt > 0 {
		w.eventOn(s.Pod, "", corev1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
	}
	w.change(func(m *lifecycle.Memory) { delete(m.Faults, "") })
	return nil
}

func (w *worker) beginStop(s *lifecycle.State, a lifecycle.BeginStop) {
	w.change(func(m *lifecycle.Memory) { m.Stops[a.ID] = lifecycle.Stop{Since: time.Now(), Grace: a.Grace} })
	if a.Message != "" {
		w.eventOn(s.Pod, a.Container, corev1.EventTypeNormal, "Killing", a.Message)
	}
}

func (w *worker) signal(ctx context.Context, a lifecycle.Signal) error {
	if err := w.k.rt.SignalContainer(ctx, a.ID, a.Signal); err != nil {
		return err
	}
	w.change(func(m *lifecycle.Memory) {
		st := m.Stops[a.ID]
		if a.Signal == 0 {
			st.Signalled = time.Now()
		} else {
			st.Killed = true
		}
		m.Stops[a.ID] = st
	})
	return nil
}
