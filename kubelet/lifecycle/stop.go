// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/kubelet/podruntime"
)

const (
	afterHook    = 2 * time.Second // what a process gets even when its preStop hook used up the grace
	defaultGrace = 30 * time.Second
	sigkill      = 9
)

// stopAll ends all that runs: init containers and containers at once, then the sidecars from last to first. True when
// nothing runs.
func stopAll(s *State, p *Plan) bool {
	var first []podruntime.Container
	var sidecars []podruntime.Container
	for _, c := range s.Containers {
		if c.State != podruntime.Running {
			continue
		}
		if s.sidecarIndex(&c) >= 0 {
			sidecars = append(sidecars, c)
		} else {
			first = append(first, c)
		}
	}
	slices.SortFunc(sidecars, func(a, b podruntime.Container) int { return s.sidecarIndex(&b) - s.sidecarIndex(&a) })
	if len(first) == 0 && len(sidecars) > 0 {
		first = sidecars[:1]
	}
	for _, c := range first {
		spec := s.specOf(&c)
		stop(s, p, &c, spec, graceFor(s, spec, ""), fmt.Sprintf("Stopping container %s", c.Labels[podruntime.LabelContainerName]))
	}
	return len(first) == 0
}

func (s *State) specOf(c *podruntime.Container) *corev1.Container {
	if s.Pod == nil {
		return nil
	}
	spec, _, _ := FindContainer(s.Pod, c.Labels[podruntime.LabelContainerName])
	return spec
}

// sidecarIndex is a sidecar's place among the init containers, -1 for other containers.
func (s *State) sidecarIndex(c *podruntime.Container) int {
	if s.Pod == nil {
		return -1
	}
	for i, m := range s.members(Init) {
		if m.spec.Name == c.Labels[podruntime.LabelContainerName] && m.sidecar() {
			return i
		}
	}
	return -1
}

// remaining is what is left of grace since the pod as a whole began to end; that matters to sidecars, which end last.
func (s *State) remaining(grace time.Duration) time.Duration {
	since := s.Now
	if goal, _, _ := Aim(s); goal == Run {
		return grace
	}
	for _, c := range s.Containers {
		if st, ok := s.Stops[c.ID]; ok && st.Since.Before(since) {
			since = st.Since
		}
	}
	return max(grace-s.Now.Sub(since), min(grace, afterHook))
}

// graceFor is how long a container may take; failed names the probe that ends it.
func graceFor(s *State, spec *corev1.Container, failed string) time.Duration {
	seconds := func(n int64) time.Duration { return max(time.Duration(n)*time.Second, time.Second) }
	if s.Pod == nil {
		if s.DefaultWait > 0 {
			return s.DefaultWait
		}
		return defaultGrace
	}
	if s.Pod.DeletionTimestamp != nil && s.Pod.DeletionGracePeriodSeconds != nil {
		return seconds(*s.Pod.DeletionGracePeriodSeconds)
	}
	if spec != nil {
		for kind, probe := range map[string]*corev1.Probe{"Liveness": spec.LivenessProbe, "Startup": spec.StartupProbe} {
			if kind == failed && probe != nil && probe.TerminationGracePeriodSeconds != nil {
				return seconds(*probe.TerminationGracePeriodSeconds)
			}
		}
	}
	if g := s.Pod.Spec.TerminationGracePeriodSeconds; g != nil {
		return seconds(*g)
	}
	return defaultGrace
}

// stop takes the next step to the end of a running container.
func stop(s *State, p *Plan, c *podruntime.Container, spec *corev1.Container, grace time.Duration, message string) {
	st, ok := s.Stops[c.ID]
	if !ok {
		p.do(BeginStop{ID: c.ID, Container: c.Labels[podruntime.LabelContainerName], Grace: s.remaining(grace), Message: message})
		return
	}
	end := st.Since.Add(min(st.Grace, grace))
	hook := spec != nil && spec.Lifecycle != nil && spec.Lifecycle.PreStop != nil
	if hook && !st.HookDone && s.Now.Before(end) {
		if !st.HookStarted {
			p.do(PreStop{c.ID, spec.Name})
		}
		p.by(s.Now, end)
		return
	}
	if st.Signalled.IsZero() {
		p.do(Signal{ID: c.ID})
		return
	}
	if least := st.Signalled.Add(afterHook); hook && end.Before(least) {
		end = least
	}
	switch {
	case s.Now.Before(end):
		p.by(s.Now, end)
	case !st.Killed:
		p.do(Signal{c.ID, sigkill})
	}
}
