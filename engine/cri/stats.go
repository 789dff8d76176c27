// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"maps"
	"slices"
	"strings"

	pb "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/knarr/knarr/engine/container"
)

func value(v uint64) *pb.UInt64Value { return &pb.UInt64Value{Value: v} }

// ContainerStats measures one container.
func (s *Server) ContainerStats(ctx context.Context, r *pb.ContainerStatsRequest) (*pb.ContainerStatsResponse, error) {
	c, err := s.container(r.GetContainerId())
	if err != nil {
		return nil, err
	}
	st, err := s.measure(ctx, c)
	return &pb.ContainerStatsResponse{Stats: st}, err
}

// ListContainerStats measures those that run and that all of the filter fits. One that ends meanwhile is left out.
func (s *Server) ListContainerStats(ctx context.Context, r *pb.ListContainerStatsRequest) (*pb.ListContainerStatsResponse, error) {
	f := r.GetFilter()
	out := &pb.ListContainerStatsResponse{}
	for _, c := range s.containers() {
		if !strings.HasPrefix(c.ID, f.GetId()) || !strings.HasPrefix(c.Spec.Sandbox, f.GetPodSandboxId()) || !hasLabels(c.asked.GetLabels(), f.GetLabelSelector()) ||
			c.state() != pb.ContainerState_CONTAINER_RUNNING {
			continue
		}
		if st, err := s.measure(ctx, c); err == nil {
			out.Stats = append(out.Stats, st)
		} else {
			s.Log.Debug("measure", "container", c.ID, "err", err)
		}
	}
	return out, nil
}

func (s *Server) measure(ctx context.Context, c box) (*pb.ContainerStats, error) {
	st, err := s.Containers.Stats(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	out := &pb.ContainerStats{
		Attributes: &pb.ContainerAttributes{Id: c.ID, Metadata: c.asked.GetMetadata(), Labels: c.asked.GetLabels(), Annotations: c.asked.GetAnnotations()},
		Cpu:        cpuOf(st), Memory: memoryOf(st), Swap: &pb.SwapUsage{Timestamp: st.Time.UnixNano()},
	}
	bytes, inodes, err := s.Containers.RWUsage(c.ID)
	if err != nil {
		return nil, err
	}
	out.WritableLayer = &pb.FilesystemUsage{
		Timestamp: st.Time.UnixNano(), FsId: &pb.FilesystemIdentifier{Mountpoint: s.Images.Dir()},
		UsedBytes: value(uint64(bytes)), InodesUsed: value(uint64(inodes)),
	}
	return out, nil
}

func cpuOf(st container.Stats) *pb.CpuUsage {
	return &pb.CpuUsage{Timestamp: st.Time.UnixNano(), UsageCoreNanoSeconds: value(st.CPU.Total)}
}

func memoryOf(st container.Stats) *pb.MemoryUsage {
	out := &pb.MemoryUsage{
		Timestamp: st.Time.UnixNano(), WorkingSetBytes: value(st.MemoryWorkingSet), UsageBytes: value(st.MemoryUsage), RssBytes: value(st.MemoryRSS),
		PageFaults: value(st.PageFaults), MajorPageFaults: value(st.MajorFaults),
	}
	if st.MemoryLimit > 0 {
		out.AvailableBytes = value(st.MemoryLimit - min(st.MemoryLimit, st.MemoryWorkingSet))
	}
	return out
}

// PodSandboxStats measures a sandbox and the containers in it.
func (s *Server) PodSandboxStats(ctx context.Context, r *pb.PodSandboxStatsRequest) (*pb.PodSandboxStatsResponse, error) {
	b, err := s.sandbox(r.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	st, err := s.measurePod(ctx, b)
	return &pb.PodSandboxStatsResponse{Stats: st}, err
}

// ListPodSandboxStats measures those that are ready and that all of the filter fits.
func (s *Server) ListPodSandboxStats(ctx context.Context, r *pb.ListPodSandboxStatsRequest) (*pb.ListPodSandboxStatsResponse, error) {
	f := r.GetFilter()
	out := &pb.ListPodSandboxStatsResponse{}
	for _, b := range s.sandboxes() {
		if !b.Ready || !strings.HasPrefix(b.Spec.ID, f.GetId()) || !hasLabels(b.pod.GetLabels(), f.GetLabelSelector()) {
			continue
		}
		if st, err := s.measurePod(ctx, b); err == nil {
			out.Stats = append(out.Stats, st)
		} else {
			s.Log.Debug("measure", "sandbox", b.Spec.ID, "err", err)
		}
	}
	return out, nil
}

func (s *Server) measurePod(ctx context.Context, b sandbox) (*pb.PodSandboxStats, error) {
	st, err := s.Containers.SandboxStats(ctx, b.Spec.ID)
	if err != nil {
		return nil, err
	}
	linux := &pb.LinuxPodSandboxStats{
		Cpu: cpuOf(st), Memory: memoryOf(st), Network: networkOf(st),
		Process: &pb.ProcessUsage{Timestamp: st.Time.UnixNano(), ProcessCount: value(st.Pids)},
	}
	own, err := s.ListContainerStats(ctx, &pb.ListContainerStatsRequest{Filter: &pb.ContainerStatsFilter{PodSandboxId: b.Spec.ID}})
	if err != nil {
		return nil, err
	}
	linux.Containers = own.Stats
	return &pb.PodSandboxStats{
		Attributes: &pb.PodSandboxAttributes{Id: b.Spec.ID, Metadata: b.pod.GetMetadata(), Labels: b.pod.GetLabels(), Annotations: b.pod.GetAnnotations()},
		Linux:      linux,
	}, nil
}

// networkOf: the first interface by name is the default one; pods have but eth0.
func networkOf(st container.Stats) *pb.NetworkUsage {
	out := &pb.NetworkUsage{Timestamp: st.Time.UnixNano()}
	for _, name := range slices.Sorted(maps.Keys(st.Networks)) {
		n := st.Networks[name]
		i := &pb.NetworkInterfaceUsage{Name: name, RxBytes: value(n.RxBytes), RxErrors: value(n.RxErrors), TxBytes: value(n.TxBytes), TxErrors: value(n.TxErrors)}
		if out.DefaultInterface == nil {
			out.DefaultInterface = i
		}
		out.Interfaces = append(out.Interfaces, i)
	}
	return out
}
