// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kubelet/podruntime"
)

// Status says what to report about a pod. What others own in it (foreign conditions, nominatedNodeName …) is kept.
func Status(s *State) corev1.PodStatus {
	was := &s.Pod.Status
	st := *was.DeepCopy()
	goal, reason, message := Aim(s)

	st.ObservedGeneration = s.Pod.Generation
	if st.StartTime == nil {
		st.StartTime = stamp(s.FirstSeen)
	}
	st.QOSClass = QOS(s.Pod)
	initDone := s.Sandbox != nil && initialisedStatus(s)
	st.InitContainerStatuses = s.containerStatuses(Init, initDone, goal)
	st.ContainerStatuses = s.containerStatuses(Main, initDone, goal)
	st.EphemeralContainerStatuses = s.containerStatuses(Ephemeral, true, goal)
	addresses(s, &st)

	if was.Phase != corev1.PodFailed && was.Phase != corev1.PodSucceeded {
		st.Phase, st.Reason, st.Message = phase(s, &st, goal), "", ""
		running := slices.ContainsFunc(s.Containers, func(c podruntime.Container) bool { return c.State == podruntime.Running })
		if goal == Finish && reason != "" && !running {
			st.Phase, st.Reason, st.Message = corev1.PodFailed, reason, message
		}
	}
	conditions(s, &st, initDone)
	return st
}

func stamp(t time.Time) *metav1.Time {
	m := metav1.NewTime(t.Truncate(time.Second))
	return &m
}

// addresses: a pod keeps its address in the status until it has ended.
func addresses(s *State, st *corev1.PodStatus) {
	st.HostIPs = nil
	for _, ip := range s.NodeIPs {
		st.HostIPs = append(st.HostIPs, corev1.HostIP{IP: ip})
	}
	if len(s.NodeIPs) > 0 {
		st.HostIP = s.NodeIPs[0]
	}
	var ips []string
	switch {
	case s.Sandbox == nil:
		return
	case s.Pod.Spec.HostNetwork:
		ips = s.NodeIPs
	default:
		for _, a := range s.Sandbox.IPs {
			ips = append(ips, a.String())
		}
	}
	if len(ips) == 0 {
		return
	}
	st.PodIP, st.PodIPs = ips[0], nil
	for _, ip := range ips {
		st.PodIPs = append(st.PodIPs, corev1.PodIP{IP: ip})
	}
}

// initialisedStatus: no init container is outstanding.
func initialisedStatus(s *State) bool {
	if begun(s) {
		return true
	}
	for _, m := range s.members(Init) {
		c := m.cur()
		if c == nil || c.Sandbox != s.Sandbox.ID {
			return false
		}
		if m.sidecar() {
			if c.State != podruntime.Running || !started(s, &m, c) {
				return false
			}
		} else if c.State != podruntime.Exited || exitCode(c) != 0 {
			return false
		}
	}
	return true
}

// tally counts the containers of a pod by what they are doing.
type tally struct{ waiting, running, stopped, succeeded int }

func count(list []corev1.ContainerStatus) (t tally) {
	add := func(x *corev1.ContainerStateTerminated) {
		t.stopped++
		if x.ExitCode == 0 {
			t.succeeded++
		}
	}
	for _, c := range list {
		switch {
		case c.State.Running != nil:
			t.running++
		case c.State.Terminated != nil:
			add(c.State.Terminated)
		case c.LastTerminationState.Terminated != nil:
			add(c.LastTerminationState.Terminated)
		default:
			t.waiting++
		}
	}
	return t
}

// phase is one word for it all.
func phase(s *State, st *corev1.PodStatus, goal Goal) corev1.PodPhase {
	t := count(st.ContainerStatuses)
	terminal := goal != Run
	switch {
	case initFailed(s):
		return corev1.PodFailed
	case t.waiting > 0:
		return corev1.PodPending
	case t.running > 0:
		return corev1.PodRunning
	case terminal && runs(s):
		return corev1.PodRunning // a sidecar is still ending
	case terminal && t.stopped == t.succeeded:
		return corev1.PodSucceeded
	case terminal:
		return corev1.PodFailed
	}
	return corev1.PodRunning // something will be restarted
}

func runs(s *State) bool {
	return slices.ContainsFunc(s.Containers, func(c podruntime.Container) bool { return c.State == podruntime.Running })
}

func initFailed(s *State) bool {
	if runs(s) {
		return false
	}
	for _, m := range s.members(Init) {
		if code, ok := m.ended(); ok && code != 0 && !m.restarts(s.Pod, code) {
			return true
		}
	}
	return false
}
