// SPDX-License-Identifier: Apache-2.0

package job

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// judge says what a failed pod means by the podFailurePolicy: its action, and for FailJob the message. Without a rule that
// matches, a failure counts.
func judge(j *batchv1.Job, p *corev1.Pod) (batchv1.PodFailurePolicyAction, string) {
	if j.Spec.PodFailurePolicy == nil || p.Status.Phase != corev1.PodFailed {
		return batchv1.PodFailurePolicyActionCount, ""
	}
	for i := range j.Spec.PodFailurePolicy.Rules {
		r := &j.Spec.PodFailurePolicy.Rules[i]
		what, ok := "", false
		if r.OnExitCodes != nil {
			what, ok = exitMatches(r.OnExitCodes, p)
		} else {
			what, ok = conditionMatches(r.OnPodConditions, p)
		}
		if !ok {
			continue
		}
		if r.Action == batchv1.PodFailurePolicyActionFailIndex && j.Spec.BackoffLimitPerIndex == nil {
			return batchv1.PodFailurePolicyActionCount, ""
		}
		return r.Action, fmt.Sprintf("%s matching %s rule at index %d", what, r.Action, i)
	}
	return batchv1.PodFailurePolicyActionCount, ""
}

func exitMatches(on *batchv1.PodFailurePolicyOnExitCodesRequirement, p *corev1.Pod) (string, bool) {
	for _, c := range slices.Concat(p.Status.ContainerStatuses, p.Status.InitContainerStatuses) {
		t := c.State.Terminated
		if t == nil || t.ExitCode == 0 || on.ContainerName != nil && *on.ContainerName != c.Name {
			continue
		}
		if slices.Contains(on.Values, t.ExitCode) == (on.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
			return fmt.Sprintf("Container %s for pod %s/%s failed with exit code %d", c.Name, p.Namespace, p.Name, t.ExitCode), true
		}
	}
	return "", false
}

func conditionMatches(on []batchv1.PodFailurePolicyOnPodConditionsPattern, p *corev1.Pod) (string, bool) {
	for _, c := range p.Status.Conditions {
		for _, want := range on {
			if c.Type == want.Type && c.Status == want.Status {
				return fmt.Sprintf("Pod %s/%s has condition %v", p.Namespace, p.Name, c.Type), true
			}
		}
	}
	return "", false
}

// succeededBy is the message of the first rule of a successPolicy that the succeeded indexes fulfil; "" if none.
func succeededBy(j *batchv1.Job, done indexes) string {
	if j.Spec.SuccessPolicy == nil {
		return ""
	}
	for i, r := range j.Spec.SuccessPolicy.Rules {
		have, want := done, int(deref(r.SucceededCount, 0))
		if r.SucceededIndexes != nil {
			of := parseIndexes(*r.SucceededIndexes, int(deref(j.Spec.Completions, 0)))
			have = indexes{}
			for x := range of {
				if done[x] {
					have[x] = true
				}
			}
			if r.SucceededCount == nil {
				want = len(of)
			}
		}
		if want > 0 && len(have) >= want {
			return fmt.Sprintf("Matched rules at index %d", i)
		}
	}
	return ""
}
