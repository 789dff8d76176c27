// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// Pod is core/v1 Pod. Its spec's rules, shared with pod templates, are in the podspec_ files.
var Pod = Kind[corev1.Pod]{
	Version: "v1", Name: "Pod", Plural: "pods", Short: []string{"po"}, Categories: []string{"all"},
	HasStatus:      true,
	Default:        defaultPod,
	Validate:       validatePod,
	ValidateUpdate: validatePodUpdate,
	ValidateStatus: validatePodStatus,
	Columns:        podColumns,
	Fields:         podFields,
	BeforeCreate:   newPod,
	Grace:          podGrace,
}

func defaultPod(p *corev1.Pod) {
	s := &p.Spec
	defaultPodSpec(s)
	orSet(&s.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			requestsFromLimits(&list[i].Resources)
			if s.HostNetwork {
				hostPorts(list[i].Ports)
			}
		}
	}
	if s.Resources != nil {
		podRequests(s)
	}
}

// hostPorts: in the host's network a container's port is the host's.
func hostPorts(ports []corev1.ContainerPort) {
	for i := range ports {
		or(&ports[i].HostPort, ports[i].ContainerPort)
	}
}

// podRequests fills in the pod-level requests: the sum over containers where any of them names the resource, else the
// pod's own limit.
func podRequests(s *corev1.PodSpec) {
	if len(s.Resources.Limits) == 0 {
		return
	}
	sum := containerRequests(s)
	for name, limit := range s.Resources.Limits {
		if name != corev1.ResourceCPU && name != corev1.ResourceMemory {
			continue
		}
		if _, ok := s.Resources.Requests[name]; ok {
			continue
		}
		if s.Resources.Requests == nil {
			s.Resources.Requests = corev1.ResourceList{}
		}
		if q, ok := sum[name]; ok {
			limit = q
		}
		s.Resources.Requests[name] = limit.DeepCopy()
	}
}

// newPod settles what belongs to the server when a pod is made; its status is empty.
func newPod(p *corev1.Pod) {
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: QOSClass(&p.Spec)}
	if len(p.Spec.SchedulingGates) > 0 {
		p.Status.Conditions = []corev1.PodCondition{{
			Type:    corev1.PodScheduled,
			Status:  corev1.ConditionFalse,
			Reason:  corev1.PodReasonSchedulingGated,
			Message: "Scheduling is blocked due to non-empty scheduling gates",
		}}
	}
}

// podGrace: the pod's own period unless the client names one; nobody would end the wait of a pod that is on no node or
// has ended already.
func podGrace(p *corev1.Pod, requested *int64) int64 {
	grace := int64(0)
	switch {
	case p.Spec.NodeName == "", p.Status.Phase == corev1.PodFailed, p.Status.Phase == corev1.PodSucceeded:
		return 0
	case requested != nil:
		grace = *requested
	case p.Spec.TerminationGracePeriodSeconds != nil:
		grace = *p.Spec.TerminationGracePeriodSeconds
	}
	if grace < 0 {
		return 1
	}
	return grace
}

func podFields(p *corev1.Pod) fields.Set {
	ip := p.Status.PodIP
	if ip == "" && len(p.Status.PodIPs) > 0 {
		ip = p.Status.PodIPs[0].IP
	}
	return fields.Set{
		"spec.nodeName":            p.Spec.NodeName,
		"spec.restartPolicy":       string(p.Spec.RestartPolicy),
		"spec.schedulerName":       p.Spec.SchedulerName,
		"spec.serviceAccountName":  p.Spec.ServiceAccountName,
		"spec.hostNetwork":         strconv.FormatBool(p.Spec.HostNetwork),
		"status.phase":             string(p.Status.Phase),
		"status.podIP":             ip,
		"status.nominatedNodeName": p.Status.NominatedNodeName,
	}
}
