// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/kubelet/podruntime"
)

// SandboxID names the attempt-th sandbox of a pod.
func SandboxID(uid types.UID, attempt int) string {
	return fmt.Sprintf("%s-%d", strings.ToLower(string(uid)), attempt)
}

// SandboxAttempt reads the attempt off an ID; -1 if it is none.
func SandboxAttempt(id string) int {
	i := strings.LastIndexByte(id, '-')
	n, err := strconv.Atoi(id[i+1:])
	if i < 0 || err != nil {
		return -1
	}
	return n
}

// Attempt reads a container's label.
func Attempt(c *podruntime.Container) int {
	n, _ := strconv.Atoi(c.Labels[podruntime.LabelAttempt])
	return n
}

// member is a container of the pod's spec with what is known of its past.
type member struct {
	kind Kind
	spec *corev1.Container
	runs []podruntime.Container  // newest first
	was  *corev1.ContainerStatus // what the API has; nil: nothing
}

// members lists the pod's containers of one kind with their runs.
func (s *State) members(kind Kind) []member {
	var out []member
	for _, c := range specsOf(s.Pod, kind) {
		out = append(out, member{kind, c, s.runs(c.Name), StatusOf(s.Pod, kind, c.Name)})
	}
	return out
}

// specsOf lists the containers of one kind.
func specsOf(p *corev1.Pod, kind Kind) []*corev1.Container {
	var out []*corev1.Container
	switch kind {
	case Init:
		for i := range p.Spec.InitContainers {
			out = append(out, &p.Spec.InitContainers[i])
		}
	case Main:
		for i := range p.Spec.Containers {
			out = append(out, &p.Spec.Containers[i])
		}
	case Ephemeral:
		for i := range p.Spec.EphemeralContainers {
			c := corev1.Container(p.Spec.EphemeralContainers[i].EphemeralContainerCommon)
			out = append(out, &c)
		}
	}
	return out
}

// FindContainer finds a container of the spec by name, whatever its kind.
func FindContainer(p *corev1.Pod, name string) (*corev1.Container, Kind, bool) {
	for _, k := range []Kind{Main, Init, Ephemeral} {
		for _, c := range specsOf(p, k) {
			if c.Name == name {
				return c, k, true
			}
		}
	}
	return nil, "", false
}

// StatusOf finds a container in the pod's status; nil: it has none yet.
func StatusOf(p *corev1.Pod, kind Kind, name string) *corev1.ContainerStatus {
	list := map[Kind][]corev1.ContainerStatus{Init: p.Status.InitContainerStatuses, Main: p.Status.ContainerStatuses,
		Ephemeral: p.Status.EphemeralContainerStatuses}[kind]
	i := slices.IndexFunc(list, func(c corev1.ContainerStatus) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &list[i]
}

func (s *State) runs(name string) []podruntime.Container { return Runs(s.Containers, name) }

// Runs are the containers of a name in a pod's list, newest first.
func Runs(list []podruntime.Container, name string) []podruntime.Container {
	var out []podruntime.Container
	for _, c := range list {
		if c.Labels[podruntime.LabelContainerName] == name {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b podruntime.Container) int { return Attempt(&b) - Attempt(&a) })
	return out
}

// cur is the newest run, or nil.
func (m *member) cur() *podruntime.Container {
	if len(m.runs) == 0 {
		return nil
	}
	return &m.runs[0]
}

// nextAttempt counts on from the runtime's list, or from the API when the runtime has lost the container.
func (m *member) nextAttempt() int {
	if c := m.cur(); c != nil {
		return Attempt(c) + 1
	}
	if m.was != nil && (m.was.ContainerID != "" || m.was.State.Terminated != nil || m.was.LastTerminationState.Terminated != nil) {
		return int(m.was.RestartCount) + 1
	}
	return 0
}

// ended answers the exit code of the newest run if that is over.
func (m *member) ended() (code int, ok bool) {
	if c := m.cur(); c != nil {
		return exitCode(c), c.State == podruntime.Exited
	}
	if m.was != nil && m.was.State.Terminated != nil {
		return int(m.was.State.Terminated.ExitCode), true
	}
	return 0, false
}

// exitCode of a start that failed is never 0.
func exitCode(c *podruntime.Container) int {
	if failedStart(c) && c.ExitCode == 0 && c.State == podruntime.Exited {
		return 128
	}
	return c.ExitCode
}

func (m *member) sidecar() bool {
	return m.kind == Init && m.spec.RestartPolicy != nil && *m.spec.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// restarts says whether a run that ended with code is followed by another one.
func (m *member) restarts(p *corev1.Pod, code int) bool {
	if m.kind == Ephemeral {
		return false
	}
	if m.sidecar() {
		return true
	}
	policy := p.Spec.RestartPolicy
	if m.spec.RestartPolicy != nil {
		policy = corev1.RestartPolicy(*m.spec.RestartPolicy)
		for _, r := range m.spec.RestartPolicyRules {
			if r.ExitCodes == nil {
				continue
			}
			in := slices.Contains(r.ExitCodes.Values, int32(code))
			if in == (r.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
				return true
			}
		}
	}
	switch {
	case m.kind == Init && policy == corev1.RestartPolicyAlways:
		return code != 0
	case policy == corev1.RestartPolicyNever:
		return false
	case policy == corev1.RestartPolicyOnFailure:
		return code != 0
	}
	return true
}

// The back-off of restarts: 10 s after the second end, doubling to 5 min, forgotten by a run of more than 10 min.
const (
	firstBackoff = 10 * time.Second
	maxBackoff   = 5 * time.Minute
	forget       = 10 * time.Minute
)

// backoffOf is the delay that follows the end of a run.
func backoffOf(c *podruntime.Container) time.Duration {
	d, _ := time.ParseDuration(c.Labels[podruntime.LabelBackoff])
	if failedStart(c) { // it could not even start: at least the first delay
		return max(d, firstBackoff)
	}
	if c.FinishedAt.Sub(c.Created) > forget {
		return 0
	}
	return d
}

// nextBackoff is the delay to follow the run after c; c nil means the run is the first.
func nextBackoff(c *podruntime.Container) time.Duration {
	if c == nil {
		return 0
	}
	d := backoffOf(c)
	if d == 0 {
		return firstBackoff
	}
	return min(2*d, maxBackoff)
}

// RestartAt is when the next run may begin.
func restartAt(c *podruntime.Container) time.Time { return c.FinishedAt.Add(backoffOf(c)) }

// failedStart: its process never executed what was asked for.
func failedStart(c *podruntime.Container) bool { return c.StartedAt.IsZero() || c.Error != "" }
