// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	corev1 "k8s.io/api/core/v1"
)

// QOSClass is a pod's quality of service: Guaranteed when every container has limits for cpu and memory and requests
// equal to them, BestEffort when nothing names either, Burstable otherwise. Pod-level resources, where given, decide alone.
func QOSClass(s *corev1.PodSpec) corev1.PodQOSClass {
	lists := []corev1.ResourceRequirements{}
	if s.Resources != nil && (len(s.Resources.Limits) > 0 || len(s.Resources.Requests) > 0) {
		lists = append(lists, *s.Resources)
	} else {
		for _, c := range s.InitContainers {
			lists = append(lists, c.Resources)
		}
		for _, c := range s.Containers {
			lists = append(lists, c.Resources)
		}
	}
	any, guaranteed := false, len(lists) > 0
	for _, r := range lists {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			limit, request := r.Limits[name], r.Requests[name]
			any = any || !limit.IsZero() || !request.IsZero()
			// A request left out is the limit: the default makes it so, but QOSClass is asked about undefaulted specs too.
			_, named := r.Requests[name]
			guaranteed = guaranteed && !limit.IsZero() && (!named || request.Cmp(limit) == 0)
		}
	}
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}
