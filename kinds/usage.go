// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Totals sum up what a pod's containers request and what their limits allow; what the pod says as a whole goes before.
// Unlike PodLimits, a resource counts as soon as one container limits it.
func Totals(s *corev1.PodSpec) (requests, limits corev1.ResourceList) {
	requests = containerRequests(s)
	limits = mostAtOnce(s, func(c *corev1.Container) corev1.ResourceList { return c.Resources.Limits })
	if s.Resources != nil {
		for name, q := range s.Resources.Requests {
			requests[name] = q
		}
		for name, q := range s.Resources.Limits {
			limits[name] = q
		}
	}
	return requests, limits
}

// Usage is what an object takes of a ResourceQuota, by the names quotas use ("requests.cpu", "services.nodeports",
// "count/deployments.apps"). API server and quota controller both go by it, so that they cannot disagree. Nil: nothing.
func Usage(t *Type, o Object, now time.Time) corev1.ResourceList {
	if t == nil || t.Cluster || t.Virtual {
		return nil
	}
	one := *resource.NewQuantity(1, resource.DecimalSI)
	name := t.Plural
	if t.Group != "" {
		name += "." + t.Group
	}
	use := corev1.ResourceList{corev1.ResourceName("count/" + name): one}
	switch o := o.(type) {
	case *corev1.Pod:
		podUsage(use, o, now)
	case *corev1.PersistentVolumeClaim:
		claimUsage(use, o)
	case *corev1.Service:
		serviceUsage(use, o)
	case *corev1.ConfigMap, *corev1.Secret, *corev1.ReplicationController, *corev1.ResourceQuota:
		use[corev1.ResourceName(t.Plural)] = one
	}
	return use
}

// podUsage: a pod that has ended, or that should have been gone for a while, takes nothing but its place among the objects.
func podUsage(use corev1.ResourceList, p *corev1.Pod, now time.Time) {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return
	}
	if p.DeletionTimestamp != nil && p.DeletionGracePeriodSeconds != nil && now.After(p.DeletionTimestamp.Time) {
		return
	}
	use[corev1.ResourcePods] = *resource.NewQuantity(1, resource.DecimalSI)
	requests, limits := Totals(&p.Spec)
	add(requests, p.Spec.Overhead)
	for name, q := range p.Spec.Overhead {
		if _, ok := limits[name]; ok {
			add(limits, corev1.ResourceList{name: q})
		}
	}
	for name, q := range requests {
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
			use[name] = q
			use["requests."+name] = q
		default:
			use["requests."+name] = q
			if strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
				use[name] = q
			}
		}
	}
	for name, q := range limits {
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
			use["limits."+name] = q
		}
	}
}

func claimUsage(use corev1.ResourceList, c *corev1.PersistentVolumeClaim) {
	one := *resource.NewQuantity(1, resource.DecimalSI)
	use[corev1.ResourcePersistentVolumeClaims] = one
	class := c.Annotations[corev1.BetaStorageClassAnnotation]
	if class == "" && c.Spec.StorageClassName != nil {
		class = *c.Spec.StorageClassName
	}
	suffix := corev1.ResourceName(class + ".storageclass.storage.k8s.io/")
	if class != "" {
		use[suffix+"persistentvolumeclaims"] = one
	}
	if q, ok := c.Spec.Resources.Requests[corev1.ResourceStorage]; ok {
		if have, ok := c.Status.AllocatedResources[corev1.ResourceStorage]; ok && have.Cmp(q) > 0 {
			q = have
		}
		use[corev1.ResourceRequestsStorage] = q
		if class != "" {
			use[suffix+"requests.storage"] = q
		}
	}
}

func serviceUsage(use corev1.ResourceList, s *corev1.Service) {
	count := func(n int) resource.Quantity { return *resource.NewQuantity(int64(n), resource.DecimalSI) }
	ports := 0
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 || s.Spec.Type == corev1.ServiceTypeNodePort {
			ports++
		} else if s.Spec.Type == corev1.ServiceTypeLoadBalancer && (s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts) {
			ports++
		}
	}
	use[corev1.ResourceServices], use[corev1.ResourceServicesLoadBalancers], use[corev1.ResourceServicesNodePorts] = count(1), count(0), count(0)
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		use[corev1.ResourceServicesNodePorts] = count(ports)
	case corev1.ServiceTypeLoadBalancer:
		use[corev1.ResourceServicesNodePorts] = count(ports)
		use[corev1.ResourceServicesLoadBalancers] = count(1)
	}
}

// Measures reports whether a quota counts the object at all: its scopes select it. Scopes select pods; a claim's volume
// attributes class is not looked at.
func Measures(q *corev1.ResourceQuota, o Object) bool {
	var terms []corev1.ScopedResourceSelectorRequirement
	for _, s := range q.Spec.Scopes {
		terms = append(terms, corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: corev1.ScopeSelectorOpExists})
	}
	if q.Spec.ScopeSelector != nil {
		terms = append(terms, q.Spec.ScopeSelector.MatchExpressions...)
	}
	if len(terms) == 0 {
		return true
	}
	pod, ok := o.(*corev1.Pod)
	return ok && !slices.ContainsFunc(terms, func(t corev1.ScopedResourceSelectorRequirement) bool { return !inScope(t, pod) })
}

func inScope(t corev1.ScopedResourceSelectorRequirement, p *corev1.Pod) bool {
	switch t.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return p.Spec.ActiveDeadlineSeconds != nil && *p.Spec.ActiveDeadlineSeconds >= 0
	case corev1.ResourceQuotaScopeNotTerminating:
		return p.Spec.ActiveDeadlineSeconds == nil
	case corev1.ResourceQuotaScopeBestEffort:
		return QOSClass(&p.Spec) == corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopeNotBestEffort:
		return QOSClass(&p.Spec) != corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return reachesOut(p.Spec.Affinity)
	case corev1.ResourceQuotaScopePriorityClass:
		name := p.Spec.PriorityClassName
		switch t.Operator {
		case corev1.ScopeSelectorOpIn:
			return slices.Contains(t.Values, name)
		case corev1.ScopeSelectorOpNotIn:
			return !slices.Contains(t.Values, name)
		case corev1.ScopeSelectorOpDoesNotExist:
			return name == ""
		}
		return name != ""
	}
	return false
}

// reachesOut: an affinity term looks at pods of other namespaces.
func reachesOut(a *corev1.Affinity) bool {
	if a == nil {
		return false
	}
	var terms []corev1.PodAffinityTerm
	take := func(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
		terms = append(terms, required...)
		for _, p := range preferred {
			terms = append(terms, p.PodAffinityTerm)
		}
	}
	if x := a.PodAffinity; x != nil {
		take(x.RequiredDuringSchedulingIgnoredDuringExecution, x.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if x := a.PodAntiAffinity; x != nil {
		take(x.RequiredDuringSchedulingIgnoredDuringExecution, x.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil })
}

// Compute are the resources of a quota that every pod must say how much it wants of, once the quota limits them.
func Compute(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory:
		return true
	}
	return false
}
