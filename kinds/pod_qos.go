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

// containerRequests is what all containers of a pod ask for together: the larger of all that run side by side and the
// hungriest moment of initialisation (sidecars started so far included). Pod-level resources and overhead are left out.
func containerRequests(s *corev1.PodSpec) corev1.ResourceList {
	total, sidecars, peak := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for _, c := range s.Containers {
		add(total, c.Resources.Requests)
	}
	for i := range s.InitContainers {
		c := &s.InitContainers[i]
		moment := corev1.ResourceList{}
		if isSidecar(c) {
			add(total, c.Resources.Requests)
			add(sidecars, c.Resources.Requests)
		} else {
			add(moment, c.Resources.Requests)
		}
		add(moment, sidecars)
		atLeast(peak, moment)
	}
	atLeast(total, peak)
	return total
}

// PodRequests is what a pod asks of a node: its containers, or the pod-level requests where given, and its overhead.
func PodRequests(s *corev1.PodSpec) corev1.ResourceList {
	total := containerRequests(s)
	if s.Resources != nil {
		for name, q := range s.Resources.Requests {
			total[name] = q
		}
	}
	add(total, s.Overhead)
	return total
}

func add(to, list corev1.ResourceList) {
	for name, q := range list {
		sum := to[name].DeepCopy()
		sum.Add(q)
		to[name] = sum
	}
}

func atLeast(to, list corev1.ResourceList) {
	for name, q := range list {
		if have, ok := to[name]; !ok || have.Cmp(q) < 0 {
			to[name] = q
		}
	}
}

// isSidecar: an init container that is restarted for as long as the pod lives.
func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
