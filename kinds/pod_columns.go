// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

var podColumns = []Column[corev1.Pod]{
	nameColumn[corev1.Pod](),
	text("Ready", "Containers that are ready, of all that should be.", 0, func(p *corev1.Pod) string {
		s := SummarizePod(p)
		return fmt.Sprintf("%d/%d", s.Ready, s.Containers)
	}),
	text("Status", "What the pod is doing, in one word.", 0, func(p *corev1.Pod) string { return SummarizePod(p).Word }),
	{
		Name: "Restarts", Description: "How often its containers were started again, and when last.",
		Cell: func(p *corev1.Pod, now time.Time) any {
			s := SummarizePod(p)
			if s.Restarts > 0 && !s.LastRestart.IsZero() {
				return fmt.Sprintf("%d (%s ago)", s.Restarts, age(s.LastRestart, now))
			}
			return fmt.Sprint(s.Restarts)
		},
	},
	ageColumn[corev1.Pod](),
	text("IP", "The pod's first address.", wide, func(p *corev1.Pod) string { return orNone(podFields(p)["status.podIP"]) }),
	text("Node", "Where the pod runs.", wide, func(p *corev1.Pod) string { return orNone(p.Spec.NodeName) }),
	text("Nominated Node", "Where room is being made for it.", wide, func(p *corev1.Pod) string { return orNone(p.Status.NominatedNodeName) }),
	text("Readiness Gates", "Gates that are open, of all.", wide, podGates),
}

func podGates(p *corev1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return none
	}
	open := 0
	for _, g := range p.Spec.ReadinessGates {
		if hasCondition(p, g.ConditionType) {
			open++
		}
	}
	return fmt.Sprintf("%d/%d", open, len(p.Spec.ReadinessGates))
}

func hasCondition(p *corev1.Pod, t corev1.PodConditionType) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == t {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// PodSummary is a pod's state as people see it.
type PodSummary struct {
	Word              string // "Running", "CrashLoopBackOff", "Init:0/2", "Terminating"…
	Ready, Containers int    // sidecars count, other init containers do not
	Restarts          int32
	LastRestart       time.Time // zero: none known
}

// SummarizePod finds the one word and the counts that `kubectl get pods` shows.
func SummarizePod(p *corev1.Pod) PodSummary {
	s := PodSummary{Word: string(p.Status.Phase), Containers: len(p.Spec.Containers)}
	if p.Status.Reason != "" {
		s.Word = p.Status.Reason
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			s.Word = corev1.PodReasonSchedulingGated
		}
	}
	sidecars := map[string]bool{}
	for i := range p.Spec.InitContainers {
		if isSidecar(&p.Spec.InitContainers[i]) {
			sidecars[p.Spec.InitContainers[i].Name] = true
			s.Containers++
		}
	}
	initializing, kept := s.initContainers(p, sidecars)
	if !initializing || hasCondition(p, corev1.PodInitialized) {
		s.mainContainers(p, kept)
	}
	if p.DeletionTimestamp != nil {
		switch {
		case p.Status.Reason == "NodeLost":
			s.Word = "Unknown"
		case p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded:
			s.Word = "Terminating"
		}
	}
	return s
}

// restarted is a count with the time of the newest restart.
type restarted struct {
	count int32
	last  time.Time
}

func (r *restarted) add(c *corev1.ContainerStatus) {
	r.count += c.RestartCount
	if t := c.LastTerminationState.Terminated; t != nil && t.FinishedAt.After(r.last) {
		r.last = t.FinishedAt.Time
	}
}

// initContainers reports whether one of them holds the pod up, and how often the sidecars among them were restarted.
func (s *PodSummary) initContainers(p *corev1.Pod, sidecars map[string]bool) (initializing bool, kept restarted) {
	all := restarted{}
	defer func() { s.Restarts, s.LastRestart = all.count, all.last }()
	for i := range p.Status.InitContainerStatuses {
		c := &p.Status.InitContainerStatuses[i]
		all.add(c)
		if sidecars[c.Name] {
			kept.add(c)
		}
		t, w := c.State.Terminated, c.State.Waiting
		switch {
		case t != nil && t.ExitCode == 0:
			continue
		case sidecars[c.Name] && isTrue(c.Started):
			if c.Ready {
				s.Ready++
			}
			continue
		case t != nil:
			s.Word = "Init:" + ending(t)
		case w != nil && w.Reason != "" && w.Reason != "PodInitializing":
			s.Word = "Init:" + w.Reason
		default:
			s.Word = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		return true, kept
	}
	return false, kept
}

// mainContainers: the first container in trouble gives the word, hence the walk from the last to the first.
func (s *PodSummary) mainContainers(p *corev1.Pod, all restarted) {
	running := false
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := &p.Status.ContainerStatuses[i]
		all.add(c)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			s.Word = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			s.Word = ending(c.State.Terminated)
		case c.Ready && c.State.Running != nil:
			running = true
			s.Ready++
		}
	}
	if s.Word == "Completed" && running {
		s.Word = "NotReady"
		if hasCondition(p, corev1.PodReady) {
			s.Word = "Running"
		}
	}
	s.Restarts, s.LastRestart = all.count, all.last
}

func ending(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}
