// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/kubelet/podruntime"
)

// Usage is what everything on the node uses at one moment.
type Usage struct {
	Node NodeUsage
	Pods []PodUsage
}

// NodeUsage of the machine.
type NodeUsage struct {
	Time                         time.Time
	CPUNanos                     uint64 // since boot
	MemoryUsage, MemoryAvailable uint64
	DiskTotal, DiskAvailable     uint64
	Inodes, InodesFree           uint64
	Tasks, MaxTasks              int64
}

// PodUsage of one pod.
type PodUsage struct {
	Pod        *corev1.Pod
	Sandbox    podruntime.SandboxStats
	Containers []ContainerUsage
}

// ContainerUsage of one running container.
type ContainerUsage struct {
	Name    string
	Started time.Time
	podruntime.ContainerStats
}

// The shape of /stats/summary: kubelet's stats/v1alpha1, the fields that metrics-server and kubectl read.
type (
	summary struct {
		Node nodeSummary  `json:"node"`
		Pods []podSummary `json:"pods"`
	}
	nodeSummary struct {
		NodeName  string         `json:"nodeName"`
		StartTime time.Time      `json:"startTime"`
		CPU       *cpuSummary    `json:"cpu,omitempty"`
		Memory    *memorySummary `json:"memory,omitempty"`
		Fs        *fsSummary     `json:"fs,omitempty"`
		Rlimit    *rlimitSummary `json:"rlimit,omitempty"`
	}
	podSummary struct {
		PodRef struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
			UID       string `json:"uid"`
		} `json:"podRef"`
		StartTime    time.Time          `json:"startTime"`
		Containers   []containerSummary `json:"containers"`
		CPU          *cpuSummary        `json:"cpu,omitempty"`
		Memory       *memorySummary     `json:"memory,omitempty"`
		Network      *networkSummary    `json:"network,omitempty"`
		ProcessStats *processSummary    `json:"process_stats,omitempty"`
	}
	containerSummary struct {
		Name      string         `json:"name"`
		StartTime time.Time      `json:"startTime"`
		CPU       *cpuSummary    `json:"cpu,omitempty"`
		Memory    *memorySummary `json:"memory,omitempty"`
		Rootfs    *fsSummary     `json:"rootfs,omitempty"`
	}
	cpuSummary struct {
		Time                 time.Time `json:"time"`
		UsageNanoCores       *uint64   `json:"usageNanoCores,omitempty"`
		UsageCoreNanoSeconds uint64    `json:"usageCoreNanoSeconds"`
	}
	memorySummary struct {
		Time            time.Time `json:"time"`
		AvailableBytes  *uint64   `json:"availableBytes,omitempty"`
		UsageBytes      uint64    `json:"usageBytes"`
		WorkingSetBytes uint64    `json:"workingSetBytes"`
		RSSBytes        *uint64   `json:"rssBytes,omitempty"`
		PageFaults      *uint64   `json:"pageFaults,omitempty"`
		MajorPageFaults *uint64   `json:"majorPageFaults,omitempty"`
	}
	fsSummary struct {
		Time           time.Time `json:"time"`
		AvailableBytes *uint64   `json:"availableBytes,omitempty"`
		CapacityBytes  *uint64   `json:"capacityBytes,omitempty"`
		UsedBytes      uint64    `json:"usedBytes"`
		InodesFree     *uint64   `json:"inodesFree,omitempty"`
		Inodes         *uint64   `json:"inodes,omitempty"`
		InodesUsed     uint64    `json:"inodesUsed"`
	}
	networkSummary struct {
		Time     time.Time `json:"time"`
		Name     string    `json:"name"`
		RxBytes  uint64    `json:"rxBytes"`
		RxErrors uint64    `json:"rxErrors"`
		TxBytes  uint64    `json:"txBytes"`
		TxErrors uint64    `json:"txErrors"`
	}
	processSummary struct {
		Count uint64 `json:"process_count"`
	}
	rlimitSummary struct {
		Time    time.Time `json:"time"`
		MaxPID  int64     `json:"maxpid"`
		Current int64     `json:"curproc"`
	}
)

// rates remembers the last CPU reading of everything, to tell the use just now. The zero value works.
type rates struct {
	mu   sync.Mutex // guards last
	last map[string]reading
}

type reading struct {
	at    time.Time
	nanos uint64
	rate  *uint64
}

// of answers cores in use, in nanocores, since the reading before; nil at first.
func (r *rates) of(key string, at time.Time, nanos uint64) *uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil || len(r.last) > 10_000 {
		r.last = map[string]reading{}
	}
	old, ok := r.last[key]
	now := reading{at: at, nanos: nanos, rate: old.rate}
	if took := at.Sub(old.at); ok && took < time.Second {
		return old.rate // too close to say
	} else if ok && nanos >= old.nanos {
		rate := uint64(float64(nanos-old.nanos) / took.Seconds())
		now.rate = &rate
	}
	r.last[key] = now
	return now.rate
}

func (s *server) cpu(key string, at time.Time, nanos uint64) *cpuSummary {
	return &cpuSummary{Time: at, UsageNanoCores: s.rate.of(key, at, nanos), UsageCoreNanoSeconds: nanos}
}

func (s *server) summary(w http.ResponseWriter, r *http.Request) {
	u := s.pods.Usage(r.Context())
	n := &u.Node
	used := n.DiskTotal - n.DiskAvailable
	out := summary{Pods: []podSummary{}, Node: nodeSummary{
		NodeName: s.cfg.NodeName, StartTime: s.cfg.Started, CPU: s.cpu("node", n.Time, n.CPUNanos),
		Memory: &memorySummary{Time: n.Time, AvailableBytes: &n.MemoryAvailable, UsageBytes: n.MemoryUsage, WorkingSetBytes: n.MemoryUsage},
		Fs: &fsSummary{Time: n.Time, AvailableBytes: &n.DiskAvailable, CapacityBytes: &n.DiskTotal, UsedBytes: used,
			InodesFree: &n.InodesFree, Inodes: &n.Inodes, InodesUsed: n.Inodes - n.InodesFree},
		Rlimit: &rlimitSummary{Time: n.Time, MaxPID: n.MaxTasks, Current: n.Tasks},
	}}
	for i := range u.Pods {
		out.Pods = append(out.Pods, s.podSummary(&u.Pods[i]))
	}
	s.json(w, r, out)
}

func (s *server) podSummary(u *PodUsage) podSummary {
	var p podSummary
	p.PodRef.Name, p.PodRef.Namespace, p.PodRef.UID = u.Pod.Name, u.Pod.Namespace, string(u.Pod.UID)
	if t := u.Pod.Status.StartTime; t != nil {
		p.StartTime = t.Time
	}
	p.Containers = []containerSummary{}
	total := u.Sandbox
	counted := total.CPUNanos > 0 || total.MemoryUsage > 0 // the pod's own cgroup, where it has one
	for i := range u.Containers {
		c := &u.Containers[i]
		key := p.PodRef.UID + "/" + c.Name
		p.Containers = append(p.Containers, containerSummary{
			Name: c.Name, StartTime: c.Started, CPU: s.cpu(key, c.Time, c.CPUNanos),
			Memory: &memorySummary{Time: c.Time, UsageBytes: c.MemoryUsage, WorkingSetBytes: c.MemoryWorkingSet, RSSBytes: &c.MemoryRSS,
				PageFaults: &c.PageFaults, MajorPageFaults: &c.MajorPageFaults},
			Rootfs: &fsSummary{Time: c.Time, UsedBytes: c.RootfsBytes, InodesUsed: c.RootfsInodes},
		})
		if !counted {
			total.Time = c.Time
			total.CPUNanos += c.CPUNanos
			total.MemoryUsage += c.MemoryUsage
			total.MemoryWorkingSet += c.MemoryWorkingSet
			total.MemoryRSS += c.MemoryRSS
			total.Pids += c.Pids
		}
	}
	p.CPU = s.cpu(p.PodRef.UID, total.Time, total.CPUNanos)
	p.Memory = &memorySummary{Time: total.Time, UsageBytes: total.MemoryUsage, WorkingSetBytes: total.MemoryWorkingSet, RSSBytes: &total.MemoryRSS}
	p.ProcessStats = &processSummary{total.Pids}
	if n := &u.Sandbox; n.Interface != "" {
		p.Network = &networkSummary{n.Time, n.Interface, n.RxBytes, n.RxErrors, n.TxBytes, n.TxErrors}
	}
	return p
}
