// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	corev1 "k8s.io/api/core/v1"
)

// hostPort is a port of the node itself; an empty address is all of them.
type hostPort struct {
	ip       string
	protocol corev1.Protocol
	port     int32
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

func (p hostPort) clashes(q hostPort) bool {
	return p.port == q.port && p.protocol == q.protocol && (p.ip == q.ip || p.ip == "" || q.ip == "")
}

func portsTaken(n *Node, want *request) []string {
	for _, p := range want.ports {
		for q := range n.ports {
			if p.clashes(q) {
				return []string{"node(s) didn't have free ports for the requested pod ports"}
			}
		}
	}
	return nil
}
