// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	dcontainer "github.com/moby/moby/api/types/container"

	"github.com/knarr/knarr/engine/container"
)

func contextUntil(ctx context.Context, t time.Time) (context.Context, context.CancelFunc) {
	return context.WithDeadline(ctx, t)
}

// containerStats streams a container's numbers once a second, or answers one reading. A reading carries the one before
// it, from which clients compute percentages.
func (s *Server) containerStats(w http.ResponseWriter, r *http.Request) error {
	c, err := s.Containers.Get(r.PathValue("id"))
	if err != nil {
		return err
	}
	stream := !r.URL.Query().Has("stream") || truth(r, "stream")
	prev, err := s.Containers.Stats(r.Context(), c.ID)
	if err != nil {
		return err
	}
	machine, err := machineMemory()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(newFlushing(w))
	if truth(r, "one-shot") {
		enc.Encode(statsView(c, prev, container.Stats{}, machine))
		return nil
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-r.Context().Done():
			return nil
		case <-tick.C:
		}
		now, err := s.Containers.Stats(r.Context(), c.ID)
		if err != nil || enc.Encode(statsView(c, now, prev, machine)) != nil || !stream {
			return nil
		}
		prev = now
	}
}

// statsView is a reading; a container without a memory limit has that of the machine.
func statsView(c container.Container, now, prev container.Stats, machine uint64) dcontainer.StatsResponse {
	if now.CPU.OnlineCPUs > 0 && (now.MemoryLimit == 0 || now.MemoryLimit > machine) {
		now.MemoryLimit = machine
	}
	out := dcontainer.StatsResponse{
		ID: c.ID, Name: "/" + c.Spec.Name, OSType: "linux", Read: now.Time, PreRead: prev.Time, CPUStats: cpuView(now.CPU), PreCPUStats: cpuView(prev.CPU),
		MemoryStats: dcontainer.MemoryStats{
			Usage: now.MemoryUsage, MaxUsage: now.MemoryMax, Limit: now.MemoryLimit, Failcnt: now.OOMKills,
			Stats: map[string]uint64{
				"cache": now.MemoryCache, "rss": now.MemoryRSS, "inactive_file": now.MemoryInactiveFile, "total_inactive_file": now.MemoryInactiveFile,
				"pgfault": now.PageFaults, "pgmajfault": now.MajorFaults,
			},
		},
		PidsStats: dcontainer.PidsStats{Current: now.Pids, Limit: now.PidsLimit}, Networks: map[string]dcontainer.NetworkStats{},
		BlkioStats: dcontainer.BlkioStats{
			IoServiceBytesRecursive: []dcontainer.BlkioStatEntry{{Op: "read", Value: now.BlkioRead}, {Op: "write", Value: now.BlkioWrite}},
			IoServicedRecursive:     []dcontainer.BlkioStatEntry{{Op: "read", Value: now.BlkioReads}, {Op: "write", Value: now.BlkioWrites}},
		},
	}
	for name, n := range now.Networks {
		out.Networks[name] = dcontainer.NetworkStats{
			RxBytes: n.RxBytes, RxPackets: n.RxPackets, RxErrors: n.RxErrors, RxDropped: n.RxDropped,
			TxBytes: n.TxBytes, TxPackets: n.TxPackets, TxErrors: n.TxErrors, TxDropped: n.TxDropped,
		}
	}
	return out
}

func cpuView(c container.CPUStats) dcontainer.CPUStats {
	return dcontainer.CPUStats{
		CPUUsage:    dcontainer.CPUUsage{TotalUsage: c.Total, PercpuUsage: c.PerCPU, UsageInKernelmode: c.Kernel, UsageInUsermode: c.User},
		SystemUsage: c.SystemTotal, OnlineCPUs: uint32(c.OnlineCPUs),
		ThrottlingData: dcontainer.ThrottlingData{Periods: c.Periods, ThrottledPeriods: c.Throttled, ThrottledTime: c.ThrottledTime},
	}
}
