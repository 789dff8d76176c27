// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kubelet/podruntime"
)

// ContainerIDPrefix is the scheme of container IDs in the API.
const ContainerIDPrefix = "knarr://"

func (s *State) containerStatuses(kind Kind, initDone bool, goal Goal) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for _, m := range s.members(kind) {
		out = append(out, s.containerStatus(&m, initDone, goal))
	}
	return out
}

func (s *State) containerStatus(m *member, initDone bool, goal Goal) corev1.ContainerStatus {
	c := m.cur()
	if c == nil {
		return s.neverRun(m, initDone, goal)
	}
	no := false
	cs := corev1.ContainerStatus{
		Name: m.spec.Name, Image: c.ImageRef, ImageID: c.ImageID, ContainerID: ContainerIDPrefix + c.ID,
		RestartCount: int32(Attempt(c)), Started: &no,
	}
	if cs.Image == "" {
		cs.Image = m.spec.Image
	}
	switch {
	case len(m.runs) > 1 && m.runs[1].State == podruntime.Exited:
		cs.LastTerminationState.Terminated = s.terminated(&m.runs[1])
	case m.was != nil && m.was.ContainerID == cs.ContainerID:
		cs.LastTerminationState = m.was.LastTerminationState
	}
	switch c.State {
	case podruntime.Running:
		s.runningStatus(m, c, &cs, initDone)
	case podruntime.Exited:
		s.exitedStatus(m, c, &cs, initDone, goal)
	default:
		cs.State.Waiting = s.waiting(m, initDone)
	}
	return cs
}

// neverRun is the status of a container that the runtime does not know.
func (s *State) neverRun(m *member, initDone bool, goal Goal) corev1.ContainerStatus {
	no := false
	cs := corev1.ContainerStatus{Name: m.spec.Name, Image: m.spec.Image, Started: &no}
	if was := m.was; was != nil {
		cs.RestartCount, cs.LastTerminationState = was.RestartCount, was.LastTerminationState
		switch {
		case was.State.Terminated != nil && goal != Run, was.State.Terminated != nil && !m.restarts(s.Pod, int(was.State.Terminated.ExitCode)):
			return *was.DeepCopy()
		case was.State.Terminated != nil:
			cs.LastTerminationState.Terminated = was.State.Terminated
		case was.State.Running != nil: // its files are gone: nobody knows how it ended
			lost := &corev1.ContainerStateTerminated{
				ExitCode: 137, Reason: "ContainerStatusUnknown", ContainerID: was.ContainerID,
				Message: "The container could not be located when the pod was terminated",
			}
			if goal != Run {
				cs.State.Terminated, cs.ContainerID, cs.ImageID = lost, was.ContainerID, was.ImageID
				return cs
			}
			cs.LastTerminationState.Terminated = lost
		}
	}
	cs.State.Waiting = s.waiting(m, initDone)
	return cs
}

func (s *State) runningStatus(m *member, c *podruntime.Container, cs *corev1.ContainerStatus, initDone bool) {
	if h, ok := s.Hooks[c.ID]; ok && !h.Done {
		cs.State.Waiting = s.waiting(m, initDone) // it counts as running when its postStart hook is done
		return
	}
	cs.State.Running = &corev1.ContainerStateRunning{StartedAt: *stamp(c.StartedAt)}
	if m.kind == Ephemeral || m.kind == Init && !m.sidecar() {
		return
	}
	up := started(s, m, c)
	cs.Started = &up
	cs.Ready = up && (m.spec.ReadinessProbe == nil || s.Probes[c.ID].Ready)
	cs.AllocatedResources = m.spec.Resources.Requests
	if len(m.spec.Resources.Requests)+len(m.spec.Resources.Limits) > 0 {
		cs.Resources = &corev1.ResourceRequirements{Requests: m.spec.Resources.Requests, Limits: m.spec.Resources.Limits}
	}
}

func (s *State) exitedStatus(m *member, c *podruntime.Container, cs *corev1.ContainerStatus, initDone bool, goal Goal) {
	end := s.terminated(c)
	cs.Ready = m.kind == Init && !m.sidecar() && end.ExitCode == 0
	if goal != Run || !m.restarts(s.Pod, int(end.ExitCode)) {
		cs.State.Terminated = end
		return
	}
	wait := s.fault(m)
	switch {
	case wait != nil:
	case s.Now.Before(restartAt(c)) && failedStart(c) && Attempt(c) == 0:
		wait = &corev1.ContainerStateWaiting{Reason: "RunContainerError", Message: c.Error}
	case s.Now.Before(restartAt(c)):
		wait = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: fmt.Sprintf(
			"back-off %s restarting failed container=%s pod=%s_%s(%s)", backoffOf(c), m.spec.Name, s.Name, s.Namespace, s.UID)}
	default:
		cs.State.Terminated = end // it is about to be restarted
		return
	}
	cs.State.Waiting, cs.LastTerminationState.Terminated = wait, end
}

func (s *State) terminated(c *podruntime.Container) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode: int32(exitCode(c)), Signal: int32(c.Signal), Reason: "Error", Message: s.Messages[c.ID],
		FinishedAt: *stamp(c.FinishedAt), ContainerID: ContainerIDPrefix + c.ID,
	}
	switch {
	case failedStart(c):
		t.Reason, t.Message, t.StartedAt = "StartError", c.Error, metav1.Time{}
		return t
	case c.OOMKilled:
		t.Reason = "OOMKilled"
	case t.ExitCode == 0:
		t.Reason = "Completed"
	}
	t.StartedAt = *stamp(c.StartedAt)
	return t
}

// waiting says why a container does not run yet.
func (s *State) waiting(m *member, initDone bool) *corev1.ContainerStateWaiting {
	if w := s.fault(m); w != nil {
		return w
	}
	if len(s.Pod.Spec.InitContainers) > 0 && !initDone {
		return &corev1.ContainerStateWaiting{Reason: "PodInitializing"}
	}
	return &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
}

// fault is what keeps the next run from starting.
func (s *State) fault(m *member) *corev1.ContainerStateWaiting {
	if p, ok := s.Pulls[m.spec.Name]; ok && p.Fault != nil && p.Attempt == m.nextAttempt() {
		if p.Fault.Reason == ErrImagePull && !s.Now.Before(p.Fault.At.Add(faultShown)) {
			return &corev1.ContainerStateWaiting{Reason: ImagePullBackOff,
				Message: fmt.Sprintf("Back-off pulling image %q: %s: %s", m.spec.Image, ErrImagePull, p.Fault.Message)}
		}
		return &corev1.ContainerStateWaiting{Reason: p.Fault.Reason, Message: p.Fault.Message}
	}
	if f, ok := s.Faults[m.spec.Name]; ok {
		return &corev1.ContainerStateWaiting{Reason: f.Reason, Message: f.Message}
	}
	return nil
}
