// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/knarr/knarr/kinds"
)

// QOS is a pod's quality-of-service class: what the API has recorded, else worked out from the resources.
func QOS(p *corev1.Pod) corev1.PodQOSClass {
	if p.Status.QOSClass != "" {
		return p.Status.QOSClass
	}
	return kinds.QOSClass(&p.Spec)
}

func hasKey(l corev1.ResourceList, name corev1.ResourceName) bool {
	_, ok := l[name]
	return ok
}

// Requests is what a pod asks for of one resource: the most that runs at a time, with overhead.
func Requests(p *corev1.Pod, name corev1.ResourceName) resource.Quantity {
	return total(p, func(r corev1.ResourceRequirements) resource.Quantity { return r.Requests[name] }, name)
}

func total(p *corev1.Pod, of func(corev1.ResourceRequirements) resource.Quantity, name corev1.ResourceName) resource.Quantity {
	var sum, sidecars, peak resource.Quantity
	for _, c := range specsOf(p, Main) {
		sum.Add(of(c.Resources))
	}
	for _, c := range specsOf(p, Init) {
		m := member{kind: Init, spec: c}
		need := of(c.Resources)
		need.Add(sidecars)
		if m.sidecar() {
			sidecars = need
		}
		if need.Cmp(peak) > 0 {
			peak = need
		}
	}
	sum.Add(sidecars)
	if peak.Cmp(sum) > 0 {
		sum = peak
	}
	if p.Spec.Resources != nil {
		if q := of(*p.Spec.Resources); q.Sign() > 0 {
			sum = q
		}
	}
	if o, ok := p.Spec.Overhead[name]; ok {
		sum.Add(o)
	}
	return sum
}

// Limits is the bound of a whole pod for one resource; ok is false when a container has none.
func Limits(p *corev1.Pod, name corev1.ResourceName) (q resource.Quantity, ok bool) {
	if p.Spec.Resources != nil && hasKey(p.Spec.Resources.Limits, name) {
		return p.Spec.Resources.Limits[name], true
	}
	for _, kind := range []Kind{Init, Main} {
		for _, c := range specsOf(p, kind) {
			if !hasKey(c.Resources.Limits, name) {
				return q, false
			}
		}
	}
	return total(p, func(r corev1.ResourceRequirements) resource.Quantity { return r.Limits[name] }, name), true
}
