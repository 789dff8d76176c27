// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/knarr/knarr/kinds"
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

// request is what a pod wants, computed once for all nodes.
type request struct {
	view      *View
	pod       *corev1.Pod
	resources resources
	ports     []hostPort
	affinity  nodeaffinity.RequiredNodeAffinity
	preferred *nodeaffinity.PreferredSchedulingTerms
	owner     types.UID // of its controller; "" if none
	social    social    // see podaffinity.go
	spreads   spreads   // see topologyspread.go
}

func newRequest(v *View, p *corev1.Pod) *request {
	r := &request{
		view: v, pod: p, resources: requested(p), ports: hostPorts(p), affinity: nodeaffinity.GetRequiredNodeAffinity(p), owner: owner(p),
	}
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		if terms, err := nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution); err == nil {
			r.preferred = terms // terms that cannot be read do not count
		}
	}
	r.spreads = newSpreads(v, r)
	r.social = newSocial(v, p)
	return r
}

func requested(p *corev1.Pod) resources { return amounts(kinds.PodRequests(&p.Spec)) }

func owner(p *corev1.Pod) types.UID {
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
		return ref.UID
	}
	return ""
}
