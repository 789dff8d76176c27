// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// resources are amounts in base units: cpu in thousandths, the rest as they are.
type resources map[corev1.ResourceName]int64

func amounts(l corev1.ResourceList) resources {
	out := make(resources, len(l))
	for name, q := range l {
		if name == corev1.ResourceCPU {
			out[name] = q.MilliValue()
		} else {
			out[name] = q.Value()
		}
	}
	return out
}

func (r resources) add(o resources, sign int64) {
	for name, n := range o {
		r[name] += sign * n
	}
}

// hostPort is a port of the node itself; an empty address is all of them.
type hostPort struct {
	ip       string
	protocol corev1.Protocol
	port     int32
}

// request is what a pod wants, computed once for all nodes.
type request struct {
	pod       *corev1.Pod
	resources resources
	ports     []hostPort
	affinity  nodeaffinity.RequiredNodeAffinity
	preferred *nodeaffinity.PreferredSchedulingTerms
	owner     types.UID // of its controller; "" if none
}

// The amounts that a pod which asks for none is scored with.
const (
	someCPU    = 100
	someMemory = 200 << 20
)

func newRequest(p *corev1.Pod) *request {
	r := &request{pod: p, resources: requested(p), ports: hostPorts(p), affinity: nodeaffinity.GetRequiredNodeAffinity(p), owner: owner(p)}
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		if terms, err := nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution); err == nil {
			r.preferred = terms // terms that cannot be read do not count
		}
	}
	return r
}

func requested(p *corev1.Pod) resources {
	return amounts(resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{}))
}

func owner(p *corev1.Pod) types.UID {
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
		return ref.UID
	}
	return ""
}

func hostPorts(p *corev1.Pod) []hostPort {
	var out []hostPort
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			for _, port := range list[i].Ports {
				if port.HostPort == 0 {
					continue
				}
				h := hostPort{port.HostIP, port.Protocol, port.HostPort}
				if h.ip == "0.0.0.0" || h.ip == "::" {
					h.ip = ""
				}
				if h.protocol == "" {
					h.protocol = corev1.ProtocolTCP
				}
				out = append(out, h)
			}
		}
	}
	return out
}
