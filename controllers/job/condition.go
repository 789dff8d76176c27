// SPDX-License-Identifier: Apache-2.0

package job

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// conditionOf finds a condition that is true.
func conditionOf(st *batchv1.JobStatus, t batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range st.Conditions {
		if c := &st.Conditions[i]; c.Type == t && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

// ended is the condition with which a Job ended for good.
func ended(st *batchv1.JobStatus) *batchv1.JobCondition {
	if c := conditionOf(st, batchv1.JobComplete); c != nil {
		return c
	}
	return conditionOf(st, batchv1.JobFailed)
}

// set adds or changes a condition; false: it said so already.
func set(st *batchv1.JobStatus, t batchv1.JobConditionType, is corev1.ConditionStatus, reason, message string, now time.Time) bool {
	c := batchv1.JobCondition{Type: t, Status: is, Reason: reason, Message: message,
		LastProbeTime: metav1.NewTime(now).Rfc3339Copy(), LastTransitionTime: metav1.NewTime(now).Rfc3339Copy()}
	for i := range st.Conditions {
		have := &st.Conditions[i]
		if have.Type != t {
			continue
		}
		if have.Status == is {
			return false
		}
		*have = c
		return true
	}
	if is == corev1.ConditionFalse {
		return false
	}
	st.Conditions = append(st.Conditions, c)
	return true
}
