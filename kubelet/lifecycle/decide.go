// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/kubelet/podruntime"
)

// Goal is where a pod is heading.
type Goal string

// The goals.
const (
	Run    Goal = "run"    // keep it running
	Finish Goal = "finish" // end what runs, free what it holds, keep the containers for their logs
	Remove Goal = "remove" // and then leave nothing behind
)

// Aim says what the pod is heading for, and why when it is not to run.
func Aim(s *State) (goal Goal, reason, message string) {
	switch {
	case s.Pod == nil:
		return Remove, "", "the pod is gone from the API"
	case s.Pod.DeletionTimestamp != nil:
		return Remove, "", "the pod is being deleted"
	case s.Pod.Status.Phase == corev1.PodFailed || s.Pod.Status.Phase == corev1.PodSucceeded:
		return Finish, s.Pod.Status.Reason, s.Pod.Status.Message
	case s.Rejected != nil:
		return Finish, s.Rejected.Reason, s.Rejected.Message
	case pastDeadline(s):
		return Finish, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
	case completed(s):
		return Finish, "", ""
	}
	return Run, "", ""
}

// deadline is when activeDeadlineSeconds ends.
func deadline(s *State) (time.Time, bool) {
	if s.Pod.Spec.ActiveDeadlineSeconds == nil || s.Pod.Status.StartTime == nil {
		return time.Time{}, false
	}
	return s.Pod.Status.StartTime.Add(time.Duration(*s.Pod.Spec.ActiveDeadlineSeconds) * time.Second), true
}

func pastDeadline(s *State) bool {
	t, ok := deadline(s)
	return ok && !s.Now.Before(t)
}

// completed: every container has ended for good, or an init container has failed for good.
func completed(s *State) bool {
	for _, m := range s.members(Init) {
		if code, ok := m.ended(); ok && code != 0 && !m.restarts(s.Pod, code) {
			return true
		}
	}
	for _, m := range s.members(Main) {
		code, ok := m.ended()
		if !ok || m.restarts(s.Pod, code) {
			return false
		}
	}
	return true
}

// Decide says what to do next. No I/O, no clock, no randomness, no logging.
func Decide(s *State) Plan {
	var p Plan
	goal, _, why := Aim(s)
	p.Why = string(goal)
	if why != "" {
		p.Why += ": " + why
	}
	switch goal {
	case Run:
		run(s, &p)
	case Finish:
		finish(s, &p)
	case Remove:
		remove(s, &p)
	}
	return p
}

// finish ends the containers and frees what the pod holds.
func finish(s *State, p *Plan) (done bool) {
	if !stopAll(s, p) {
		return false
	}
	for _, o := range s.Old {
		p.do(RemoveSandbox{o.ID})
	}
	if s.Sandbox != nil {
		p.do(RemoveSandbox{s.Sandbox.ID})
	}
	if s.Volumes.Any {
		p.do(UnmountVolumes{})
	}
	return len(p.Actions) == 0
}

// remove leaves nothing behind; the object goes first, the containers' logs last.
func remove(s *State, p *Plan) {
	switch {
	case !finish(s, p):
	case s.Pod != nil && len(s.Pod.Finalizers) > 0 && s.Pod.DeletionGracePeriodSeconds != nil && *s.Pod.DeletionGracePeriodSeconds == 0:
		p.Why = "waiting for the pod's finalizers"
	case s.Pod != nil:
		p.do(DeleteObject{})
	default:
		for _, c := range s.Containers {
			p.do(RemoveContainer{c.ID})
		}
		if s.HasDir {
			p.do(RemoveDir{})
		}
		if len(p.Actions) == 0 {
			p.do(Forget{})
		}
	}
}

// run keeps the pod running.
func run(s *State, p *Plan) {
	if t, ok := deadline(s); ok {
		p.by(s.Now, t)
	}
	if !s.HasDir {
		p.do(MakeDir{})
	}
	ready := volumesReady(s, p) && sandboxReady(s, p)
	if ready && initialised(s, p) {
		for _, m := range s.members(Main) {
			maintain(s, p, &m)
		}
	}
	if ready {
		for _, m := range s.members(Ephemeral) {
			maintain(s, p, &m)
		}
	}
	collect(s, p)
}

// volumesReady answers whether containers may be started.
func volumesReady(s *State, p *Plan) bool {
	v := s.Volumes
	if !v.Again.IsZero() {
		p.by(s.Now, v.Again)
	}
	stale := v.Stale || !v.Again.IsZero() && !s.Now.Before(v.Again)
	switch {
	case v.Fault != nil && s.Now.Before(v.Fault.Retry) && (!v.Mounted || stale):
		p.by(s.Now, v.Fault.Retry)
		return v.Mounted
	case !v.Mounted || stale:
		p.do(MountVolumes{})
	}
	return true // a failed action ends the pass: what follows is not reached then
}

// sandboxReady sees to the sandbox. Containers of an older one are ended first.
func sandboxReady(s *State, p *Plan) bool {
	for _, o := range s.Old {
		if !usedBy(s, o.ID) {
			p.do(RemoveSandbox{o.ID})
		}
	}
	if s.Sandbox != nil && s.Sandbox.Ready {
		return true
	}
	if !stopAll(s, p) {
		return false
	}
	if f, ok := s.Faults[""]; ok && s.Now.Before(f.Retry) {
		p.by(s.Now, f.Retry)
		return false
	}
	if s.Sandbox != nil {
		p.do(RemoveSandbox{s.Sandbox.ID})
	}
	p.do(EnsureSandbox{nextSandbox(s)})
	return false // containers are decided on when it is there
}

func usedBy(s *State, sandbox string) bool {
	for _, c := range s.Containers {
		if c.Sandbox == sandbox && c.State != podruntime.Exited {
			return true
		}
	}
	return false
}

// nextSandbox counts on from every sandbox that was ever seen.
func nextSandbox(s *State) int {
	next := 0
	if s.Sandbox != nil {
		next = SandboxAttempt(s.Sandbox.ID) + 1
	}
	for _, c := range s.Containers {
		next = max(next, SandboxAttempt(c.Sandbox)+1)
	}
	return next
}

// initialised runs the init containers; true when the others may start.
func initialised(s *State, p *Plan) bool {
	over := begun(s)
	for _, m := range s.members(Init) {
		cur := m.cur()
		inThis := cur != nil && cur.Sandbox == s.Sandbox.ID
		switch {
		case m.sidecar():
			maintain(s, p, &m)
			if !over && !(inThis && cur.State == podruntime.Running && started(s, &m, cur)) {
				return false
			}
		case over:
		case inThis && cur.State == podruntime.Exited && exitCode(cur) == 0:
		default:
			maintain(s, p, &m)
			return false
		}
	}
	return true
}

// begun: a container was started in this sandbox, so the init containers are over.
func begun(s *State) bool {
	for _, m := range s.members(Main) {
		if c := m.cur(); c != nil && s.Sandbox != nil && c.Sandbox == s.Sandbox.ID {
			return true
		}
	}
	return false
}

// started: it counts as up, for what comes after it.
func started(s *State, m *member, c *podruntime.Container) bool {
	if h, ok := s.Hooks[c.ID]; ok && !h.Done {
		return false
	}
	return m.spec.StartupProbe == nil || s.Probes[c.ID].Started
}

// maintain starts a container, restarts it, or ends it when it must be restarted.
func maintain(s *State, p *Plan, m *member) {
	c := m.cur()
	if c == nil {
		if code, ok := m.ended(); ok && (m.kind == Ephemeral || m.kind == Main && !m.restarts(s.Pod, code)) {
			return // it had ended before the runtime lost it
		}
		start(s, p, m, nil)
		return
	}
	switch c.State {
	case podruntime.Running:
		if why := unfit(s, m, c); why != "" {
			stop(s, p, c, m.spec, graceFor(s, m.spec, s.Probes[c.ID].Failed), why)
		} else if st, ok := s.Stops[c.ID]; ok && !st.Since.IsZero() {
			stop(s, p, c, m.spec, st.Grace, "") // go on with what was begun
		}
	case podruntime.Created: // its start was cut off by a crash
		p.do(RemoveContainer{c.ID})
	case podruntime.Exited:
		again := c.Sandbox != s.Sandbox.ID && m.kind == Init && !m.sidecar()
		if !again && !m.restarts(s.Pod, exitCode(c)) {
			return
		}
		if at := restartAt(c); s.Now.Before(at) && !again {
			p.by(s.Now, at)
			p.do(s.once(Event{Key: "backoff/" + c.ID, Type: corev1.EventTypeWarning, Reason: "BackOff", Container: m.spec.Name,
				Message: fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)", m.spec.Name, s.Name, s.Namespace, s.UID)})...)
			return
		}
		start(s, p, m, c)
	}
}

// unfit says why a running container must be ended and started anew.
func unfit(s *State, m *member, c *podruntime.Container) string {
	if h := s.Hooks[c.ID]; h.Error != "" {
		return "FailedPostStartHook"
	}
	switch s.Probes[c.ID].Failed {
	case "Liveness":
		return fmt.Sprintf("Container %s failed liveness probe, will be restarted", m.spec.Name)
	case "Startup":
		return fmt.Sprintf("Container %s failed startup probe, will be restarted", m.spec.Name)
	}
	if m.kind != Ephemeral && c.Labels[podruntime.LabelSpecHash] != SpecHash(m.spec) {
		return fmt.Sprintf("Container %s definition changed, will be restarted", m.spec.Name)
	}
	return ""
}

// collect removes ended runs but the newest and the one before it.
func collect(s *State, p *Plan) {
	for _, kind := range []Kind{Init, Main, Ephemeral} {
		for _, m := range s.members(kind) {
			for i, c := range m.runs {
				if i >= 2 && c.State != podruntime.Running {
					p.do(RemoveContainer{c.ID})
				}
			}
		}
	}
}

// once drops events that were told already.
func (s *State) once(events ...Event) []Action {
	var out []Action
	for _, e := range events {
		if !s.Announced[e.Key] {
			out = append(out, e)
		}
	}
	return out
}
