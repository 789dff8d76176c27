// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	corev1 "k8s.io/api/core/v1"
)

// PodRequests is what a pod asks of a node: its containers, or the pod-level requests where given, and its overhead.
// Scheduler and kubelet both go by it, so they cannot disagree about what fits.
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

// PodLimits is what a pod as a whole may use, for those resources that have a bound at all: that all containers limit, or
// the pod itself. Its overhead is added to the containers' sum; a limit of the pod is taken as it is.
func PodLimits(s *corev1.PodSpec) corev1.ResourceList {
	total := mostAtOnce(s, func(c *corev1.Container) corev1.ResourceList { return c.Resources.Limits })
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for _, c := range list {
			for name := range total {
				if _, ok := c.Resources.Limits[name]; !ok {
					delete(total, name)
				}
			}
		}
	}
	for name, q := range s.Overhead {
		if _, ok := total[name]; ok {
			add(total, corev1.ResourceList{name: q})
		}
	}
	if s.Resources != nil {
		for name, q := range s.Resources.Limits {
			total[name] = q
		}
	}
	return total
}

// containerRequests is what all containers of a pod ask for together; pod-level resources and overhead are left out.
func containerRequests(s *corev1.PodSpec) corev1.ResourceList {
	return mostAtOnce(s, func(c *corev1.Container) corev1.ResourceList { return c.Resources.Requests })
}

// mostAtOnce sums a pod's containers: the larger of all that run side by side and the hungriest moment of initialisation,
// with the sidecars that have started by then.
func mostAtOnce(s *corev1.PodSpec, of func(*corev1.Container) corev1.ResourceList) corev1.ResourceList {
	total, sidecars, peak := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for i := range s.Containers {
		add(total, of(&s.Containers[i]))
	}
	for i := range s.InitContainers {
		c := &s.InitContainers[i]
		moment := corev1.ResourceList{}
		if isSidecar(c) {
			add(total, of(c))
			add(sidecars, of(c))
		} else {
			add(moment, of(c))
		}
		add(moment, sidecars)
		atLeast(peak, moment)
	}
	atLeast(total, peak)
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
