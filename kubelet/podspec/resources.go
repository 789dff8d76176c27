// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/kubelet/lifecycle"
	"github.com/knarr/knarr/kubelet/podruntime"
)

// The scale of CPU numbers in cgroups.
const (
	period    = 100_000 // µs
	minQuota  = 1_000   // the kernel takes no less
	minShares = 2
	maxShares = 262_144
)

// CgroupParent is the pod's group: by class, as Kubernetes lays them out.
func CgroupParent(p *corev1.Pod) string {
	pod := "pod" + strings.ToLower(string(p.UID))
	switch lifecycle.QOS(p) {
	case corev1.PodQOSGuaranteed:
		return path.Join("kubepods", pod)
	case corev1.PodQOSBurstable:
		return path.Join("kubepods/burstable", pod)
	}
	return path.Join("kubepods/besteffort", pod)
}

func shares(milli int64) uint64 {
	return uint64(min(max(milli*1024/1000, minShares), maxShares))
}

func quota(milli int64) int64 {
	if milli == 0 {
		return 0
	}
	return max(milli*period/1000, minQuota)
}

// podResources bound the pod as a whole: what its containers ask for; limits only where every container has one.
func podResources(p *corev1.Pod) podruntime.Resources {
	requests, limits := kinds.PodRequests(&p.Spec), kinds.PodLimits(&p.Spec)
	r := podruntime.Resources{CPUShares: shares(requests.Cpu().MilliValue()), Memory: limits.Memory().Value()}
	if q := limits.Cpu(); q.Sign() > 0 {
		r.CPUPeriod, r.CPUQuota = period, quota(q.MilliValue())
	}
	return r
}

func containerResources(in Input) podruntime.Resources {
	req, lim := in.Spec.Resources.Requests, in.Spec.Resources.Limits
	cpu, named := req[corev1.ResourceCPU]
	limit := lim[corev1.ResourceCPU]
	if !named {
		cpu = limit
	}
	adj := oomScoreAdj(in)
	r := podruntime.Resources{CPUShares: shares(cpu.MilliValue()), OOMScoreAdj: &adj}
	if limit.Sign() > 0 {
		r.CPUPeriod, r.CPUQuota = period, quota(limit.MilliValue())
	}
	if m := lim[corev1.ResourceMemory]; m.Sign() > 0 {
		r.Memory = m.Value()
	}
	return r
}

// The order in which the kernel picks victims.
const (
	oomGuaranteed = -997
	oomBestEffort = 1000
	critical      = 2_000_000_000 // priority of system-critical pods
)

// oomScoreAdj: guaranteed pods go last, best-effort pods first, the others the sooner the less they asked for.
func oomScoreAdj(in Input) int {
	if in.Pod.Spec.Priority != nil && *in.Pod.Spec.Priority >= critical {
		return oomGuaranteed
	}
	switch lifecycle.QOS(in.Pod) {
	case corev1.PodQOSGuaranteed:
		return oomGuaranteed
	case corev1.PodQOSBestEffort:
		return oomBestEffort
	}
	have := in.Node.Capacity[corev1.ResourceMemory]
	if have.Value() == 0 {
		return oomBestEffort - 1
	}
	want := in.Spec.Resources.Requests[corev1.ResourceMemory]
	adj := 1000 - int(1000*want.Value()/have.Value())
	return min(max(adj, 1000+oomGuaranteed), oomBestEffort-1)
}
