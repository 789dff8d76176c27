// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/kubelet/podruntime"
)

// conditions fills in those that the kubelet owns.
func conditions(s *State, st *corev1.PodStatus, initDone bool) {
	scheduled := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}
	all := containersReady(s, st)
	for _, c := range []corev1.PodCondition{sandboxCondition(s), initCondition(s, st, initDone), ready(s, st, all), all, scheduled} {
		setCondition(s, st, c)
	}
}

func setCondition(s *State, st *corev1.PodStatus, c corev1.PodCondition) {
	c.ObservedGeneration = s.Pod.Generation
	i := slices.IndexFunc(st.Conditions, func(x corev1.PodCondition) bool { return x.Type == c.Type })
	switch {
	case i < 0:
		c.LastTransitionTime = *stamp(s.Now)
		st.Conditions = append(st.Conditions, c)
		return
	case st.Conditions[i].Status == c.Status:
		c.LastTransitionTime, c.LastProbeTime = st.Conditions[i].LastTransitionTime, st.Conditions[i].LastProbeTime
	default:
		c.LastTransitionTime = *stamp(s.Now)
	}
	st.Conditions[i] = c
}

func sandboxCondition(s *State) corev1.PodCondition {
	up := s.Sandbox != nil && s.Sandbox.Ready
	return corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: truth(up)}
}

func initCondition(s *State, st *corev1.PodStatus, initDone bool) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	if st.Phase == corev1.PodSucceeded {
		c.Reason = "PodCompleted"
		return c
	}
	var missing []string
	for i, m := range s.members(Init) {
		cs := st.InitContainerStatuses[i]
		ok := cs.Ready
		if m.sidecar() {
			ok = cs.Started != nil && *cs.Started
		}
		if !ok {
			missing = append(missing, m.spec.Name)
		}
	}
	if len(missing) > 0 && !initDone && !anyRan(st) {
		c.Status, c.Reason = corev1.ConditionFalse, "ContainersNotInitialized"
		c.Message = fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(missing, " "))
	}
	return c
}

// anyRan: a container that waits for the init containers has run, so they were done once.
func anyRan(st *corev1.PodStatus) bool {
	return slices.ContainsFunc(st.ContainerStatuses, func(c corev1.ContainerStatus) bool {
		return c.State.Running != nil || c.State.Terminated != nil || c.LastTerminationState.Terminated != nil
	})
}

func containersReady(s *State, st *corev1.PodStatus) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionFalse}
	switch st.Phase {
	case corev1.PodSucceeded:
		c.Reason = "PodCompleted"
		return c
	case corev1.PodFailed:
		c.Reason = "PodFailed"
		return c
	}
	var unready []string
	for i, m := range s.members(Init) {
		if m.sidecar() && !st.InitContainerStatuses[i].Ready {
			unready = append(unready, m.spec.Name)
		}
	}
	for _, cs := range st.ContainerStatuses {
		if !cs.Ready {
			unready = append(unready, cs.Name)
		}
	}
	if len(unready) > 0 {
		c.Reason, c.Message = "ContainersNotReady", fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " "))
		return c
	}
	c.Status = corev1.ConditionTrue
	return c
}

// ready is containersReady plus the readiness gates.
func ready(s *State, st *corev1.PodStatus, all corev1.PodCondition) corev1.PodCondition {
	all.Type = corev1.PodReady
	if all.Status != corev1.ConditionTrue {
		return all
	}
	var missing []string
	for _, g := range s.Pod.Spec.ReadinessGates {
		i := slices.IndexFunc(st.Conditions, func(c corev1.PodCondition) bool { return c.Type == g.ConditionType })
		switch {
		case i < 0:
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", g.ConditionType))
		case st.Conditions[i].Status != corev1.ConditionTrue:
			missing = append(missing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %s", g.ConditionType, st.Conditions[i].Status))
		}
	}
	if len(missing) > 0 {
		all.Status, all.Reason, all.Message = corev1.ConditionFalse, "ReadinessGatesNotReady", strings.Join(missing, ", ")
	}
	return all
}

func truth(b bool) corev1.ConditionStatus {
	if b {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

// SidecarsAndMains are the running containers that probes are for.
func SidecarsAndMains(s *State) map[string]*podruntime.Container {
	out := map[string]*podruntime.Container{}
	if s.Pod == nil {
		return out
	}
	for _, kind := range []Kind{Init, Main} {
		for _, m := range s.members(kind) {
			if c := m.cur(); c != nil && c.State == podruntime.Running && (kind == Main || m.sidecar()) {
				if h, ok := s.Hooks[c.ID]; !ok || h.Done {
					out[m.spec.Name] = c
				}
			}
		}
	}
	return out
}
