// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"

	pb "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/knarr/knarr/engine/container"
)

// metric is one number of a container's or a sandbox's. The names are those that dashboards know from cAdvisor.
type metric struct {
	name, help string
	kind       pb.MetricType
	read       func(container.Stats) uint64
}

// metrics lists what is measured. One more is one line.
func metrics() []metric {
	return []metric{
		{"container_cpu_usage_seconds_total", "Time of CPUs used, in whole seconds", pb.MetricType_COUNTER, func(s container.Stats) uint64 { return s.CPU.Total / 1e9 }},
		{"container_cpu_cfs_periods_total", "Periods of the CPU quota that have passed", pb.MetricType_COUNTER, func(s container.Stats) uint64 { return s.CPU.Periods }},
		{"container_cpu_cfs_throttled_periods_total", "Periods in which the CPU quota held processes up", pb.MetricType_COUNTER, func(s container.Stats) uint64 { return s.CPU.Throttled }},
		{"container_memory_usage_bytes", "Memory in use, with the page cache", pb.MetricType_GAUGE, func(s container.Stats) uint64 { return s.MemoryUsage }},
		{"container_memory_working_set_bytes", "Memory in use without inactive pages of files", pb.MetricType_GAUGE, func(s container.Stats) uint64 { return s.MemoryWorkingSet }},
		{"container_memory_rss", "Anonymous memory", pb.MetricType_GAUGE, func(s container.Stats) uint64 { return s.MemoryRSS }},
		{"container_memory_cache", "Memory of the page cache", pb.MetricType_GAUGE, func(s container.Stats) uint64 { return s.MemoryCache }},
		{"container_oom_events_total", "Processes killed for want of memory", pb.MetricType_COUNTER, func(s container.Stats) uint64 { return s.OOMKills }},
		{"container_processes", "Processes and threads", pb.MetricType_GAUGE, func(s container.Stats) uint64 { return s.Pids }},
		{"container_fs_reads_bytes_total", "Bytes read from block devices", pb.MetricType_COUNTER, func(s container.Stats) uint64 { return s.BlkioRead }},
		{"container_fs_writes_bytes_total", "Bytes written to block devices", pb.MetricType_COUNTER, func(s container.Stats) uint64 { return s.BlkioWrite }},
	}
}

// ListMetricDescriptors says which metrics there are. Their label values name the container; a sandbox's own say "POD".
func (s *Server) ListMetricDescriptors(context.Context, *pb.ListMetricDescriptorsRequest) (*pb.ListMetricDescriptorsResponse, error) {
	out := &pb.ListMetricDescriptorsResponse{}
	for _, m := range metrics() {
		out.Descriptors = append(out.Descriptors, &pb.MetricDescriptor{Name: m.name, Help: m.help, LabelKeys: []string{"id", "name"}})
	}
	return out, nil
}

// ListPodSandboxMetrics measures all sandboxes that are ready.
func (s *Server) ListPodSandboxMetrics(ctx context.Context, _ *pb.ListPodSandboxMetricsRequest) (*pb.ListPodSandboxMetricsResponse, error) {
	out := &pb.ListPodSandboxMetricsResponse{}
	all := s.containers()
	for _, b := range s.sandboxes() {
		if !b.Ready {
			continue
		}
		st, err := s.Containers.SandboxStats(ctx, b.Spec.ID)
		if err != nil {
			continue // it has just been stopped
		}
		pod := &pb.PodSandboxMetrics{PodSandboxId: b.Spec.ID, Metrics: numbers(st, b.Spec.ID, "POD")}
		for _, c := range all {
			if c.Spec.Sandbox != b.Spec.ID || c.state() != pb.ContainerState_CONTAINER_RUNNING {
				continue
			}
			if st, err := s.Containers.Stats(ctx, c.ID); err == nil {
				pod.ContainerMetrics = append(pod.ContainerMetrics, &pb.ContainerMetrics{ContainerId: c.ID, Metrics: numbers(st, c.ID, c.asked.GetMetadata().GetName())})
			}
		}
		out.PodMetrics = append(out.PodMetrics, pod)
	}
	return out, nil
}

func numbers(st container.Stats, id, name string) []*pb.Metric {
	var out []*pb.Metric
	for _, m := range metrics() {
		out = append(out, &pb.Metric{Name: m.name, Timestamp: st.Time.UnixNano(), MetricType: m.kind, LabelValues: []string{id, name}, Value: value(m.read(st))})
	}
	return out
}
