// SPDX-License-Identifier: Apache-2.0

package replicaset

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func isFailure(c appsv1.ReplicaSetCondition) bool { return c.Type == appsv1.ReplicaSetReplicaFailure }

// failing: the status says that pods could not be made.
func failing(rs *appsv1.ReplicaSet) bool {
	return slices.ContainsFunc(rs.Status.Conditions, isFailure)
}

// failed is the status when a creation failed.
func failed(st appsv1.ReplicaSetStatus, err error, now time.Time) appsv1.ReplicaSetStatus {
	st = *st.DeepCopy()
	forget(&st)
	st.Conditions = append(st.Conditions, appsv1.ReplicaSetCondition{
		Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: err.Error(),
		LastTransitionTime: metav1.NewTime(now).Rfc3339Copy(),
	})
	return st
}

// forget takes the failure out of a status.
func forget(st *appsv1.ReplicaSetStatus) {
	if slices.ContainsFunc(st.Conditions, isFailure) {
		st.Conditions = slices.DeleteFunc(slices.Clone(st.Conditions), isFailure)
	}
}
