// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/kubelet/lifecycle"
	"github.com/knarr/knarr/kubelet/podspec"
)

// admit checks, once, whether a pod that has not begun here may: the scheduler may have been wrong, or somebody set
// spec.nodeName himself. A pod that runs already is never sent away.
func (w *worker) admit(s *lifecycle.State) {
	k := w.k
	k.mu.Lock()
	defer k.mu.Unlock()
	if s.Pod.Status.Phase == corev1.PodFailed || s.Pod.Status.Phase == corev1.PodSucceeded {
		delete(k.admitted, w.uid)
		return
	}
	if _, ok := k.admitted[w.uid]; ok || s.Pod.DeletionTimestamp != nil {
		return
	}
	begun := len(s.Containers) > 0 || s.Sandbox != nil || len(s.Pod.Status.ContainerStatuses) > 0
	if r := reject(s.Pod, k.view, k.admitted); r != nil && !begun {
		w.mu.Lock()
		first := w.mem.Rejected == nil
		w.mem.Rejected = r
		w.mu.Unlock()
		if first {
			w.eventOn(s.Pod, "", corev1.EventTypeWarning, r.Reason, r.Message)
		}
		return
	}
	k.admitted[w.uid] = s.Pod
	w.mu.Lock()
	w.mem.Rejected = nil
	w.mu.Unlock()
}

// reject says why a pod may not run here beside the others; nil: it may.
func reject(p *corev1.Pod, n *podspec.Node, others map[types.UID]*corev1.Pod) *lifecycle.Rejection {
	if p.Spec.OS != nil && p.Spec.OS.Name != corev1.Linux {
		return &lifecycle.Rejection{Reason: "PodOSNotSupported", Message: "Pod was rejected: its OS field does not match the node's: " + string(p.Spec.OS.Name)}
	}
	if _, err := podspec.Sandbox(p, n, 0); err != nil {
		return &lifecycle.Rejection{Reason: "SysctlForbidden", Message: "Pod was rejected: " + err.Error()}
	}
	if r := portConflict(p, others); r != nil {
		return r
	}
	requests := kinds.PodRequests(&p.Spec)
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		want, used, have := requests[name], resource.Quantity{}, n.Allocatable[name]
		for _, o := range others {
			used.Add(kinds.PodRequests(&o.Spec)[name])
		}
		sum := want.DeepCopy()
		sum.Add(used)
		if want.Sign() > 0 && sum.Cmp(have) > 0 {
			return &lifecycle.Rejection{Reason: "OutOf" + string(name), Message: fmt.Sprintf(
				"Pod was rejected: Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, value(name, want), value(name, used), value(name, have))}
		}
	}
	if have := n.Allocatable[corev1.ResourcePods]; int64(len(others)) >= have.Value() {
		return &lifecycle.Rejection{Reason: "OutOfpods", Message: fmt.Sprintf(
			"Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: %d, capacity: %d", len(others), have.Value())}
	}
	return nil
}

func value(name corev1.ResourceName, q resource.Quantity) int64 {
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

func portConflict(p *corev1.Pod, others map[types.UID]*corev1.Pod) *lifecycle.Rejection {
	mine := ports(p)
	for _, o := range others {
		for _, port := range ports(o) {
			if slices.ContainsFunc(mine, port.clashes) {
				return &lifecycle.Rejection{Reason: "NodePorts", Message: fmt.Sprintf(
					"Pod was rejected: node port %s is taken by pod %s/%s", port, o.Namespace, o.Name)}
			}
		}
	}
	return nil
}

type hostPort struct {
	ip, protocol string
	port         int32
}

func (a hostPort) String() string { return fmt.Sprintf("%d/%s", a.port, strings.ToLower(a.protocol)) }

func (a hostPort) clashes(b hostPort) bool {
	return a.port == b.port && a.protocol == b.protocol && (a.ip == b.ip || a.ip == "" || b.ip == "")
}

func ports(p *corev1.Pod) []hostPort {
	var out []hostPort
	for _, c := range p.Spec.Containers {
		for _, x := range c.Ports {
			n := x.HostPort
			if p.Spec.HostNetwork {
				n = x.ContainerPort
			}
			if n == 0 {
				continue
			}
			h := hostPort{x.HostIP, string(x.Protocol), n}
			if h.ip == "0.0.0.0" || h.ip == "::" {
				h.ip = ""
			}
			if h.protocol == "" {
				h.protocol = "TCP"
			}
			out = append(out, h)
		}
	}
	return out
}
