// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/engine/cgroup"
	"github.com/knarr/knarr/internal/errs"
)

// Stats are a running container's or sandbox's numbers at one moment. Counters count from its start.
type Stats struct {
	Time                                           time.Time
	CPU                                            CPUStats
	MemoryUsage, MemoryMax, MemoryLimit            uint64 // bytes; max: the peak; limit 0: none
	MemoryWorkingSet, MemoryRSS, MemoryCache       uint64 // working set: usage without inactive file pages
	MemoryInactiveFile, PageFaults, MajorFaults    uint64
	OOMKills                                       uint64
	Pids, PidsLimit                                uint64
	BlkioRead, BlkioWrite, BlkioReads, BlkioWrites uint64                  // bytes, operations
	Networks                                       map[string]NetworkStats // by interface in the container
}

// CPUStats are times in nanoseconds.
type CPUStats struct {
	Total, User, Kernel uint64
	PerCPU              []uint64
	Periods, Throttled  uint64
	ThrottledTime       uint64
	SystemTotal         uint64 // the machine's busy and idle time of all CPUs
	OnlineCPUs          int
}

// NetworkStats are an interface's counters, as the container sees its directions.
type NetworkStats struct{ RxBytes, RxPackets, RxErrors, RxDropped, TxBytes, TxPackets, TxErrors, TxDropped uint64 }

// Stats reads a container's numbers. One that does not run has zero ones.
func (e *Engine) Stats(ctx context.Context, ref string) (Stats, error) {
	c, err := e.find(ref)
	if err != nil {
		return Stats{}, err
	}
	st := c.status()
	if !st.running() {
		return Stats{Time: time.Now()}, nil
	}
	return e.stats(st.Cgroup, nsPath(st.Pid, "net"), st.Netns != "")
}

// SandboxStats are the numbers of all containers of a sandbox, and of its network.
func (e *Engine) SandboxStats(ctx context.Context, id string) (Stats, error) {
	s, err := e.Sandbox(id)
	if err != nil {
		return Stats{}, err
	}
	if !s.Ready {
		return Stats{}, errs.New(errs.Conflict, "sandbox %s is not ready", id)
	}
	return e.stats(s.Cgroup, s.NetnsPath, s.NetnsPath != "")
}

func (e *Engine) stats(group, netns string, hasNet bool) (Stats, error) {
	g, err := e.layout.Open(group)
	if err != nil {
		return Stats{}, err
	}
	raw, err := g.Stat()
	if err != nil {
		return Stats{}, err
	}
	s := statsOf(raw)
	s.Time, s.CPU.OnlineCPUs = time.Now(), runtime.NumCPU()
	if text, err := os.ReadFile("/proc/stat"); err == nil {
		s.CPU.SystemTotal = systemTime(string(text))
	}
	if hasNet {
		text, err := readNetDev(netns)
		if err != nil {
			return s, err
		}
		s.Networks = parseNetDev(text)
	}
	return s, nil
}

func statsOf(raw cgroup.Stat) Stats {
	m := raw.Memory
	s := Stats{
		CPU: CPUStats{Total: raw.CPU.Usage, User: raw.CPU.User, Kernel: raw.CPU.System, PerCPU: raw.CPU.PerCPU,
			Periods: raw.CPU.Periods, Throttled: raw.CPU.Throttled, ThrottledTime: raw.CPU.ThrottledTime},
		MemoryUsage: m.Usage, MemoryMax: m.Peak, MemoryLimit: noMax(m.Limit), MemoryWorkingSet: m.WorkingSet, MemoryRSS: m.RSS,
		MemoryCache: m.Cache, MemoryInactiveFile: m.Usage - m.WorkingSet, PageFaults: m.Faults, MajorFaults: m.MajorFaults,
		OOMKills: m.OOMKills, Pids: raw.Pids.Current, PidsLimit: noMax(raw.Pids.Limit),
	}
	for _, io := range raw.IO {
		s.BlkioRead += io.ReadBytes
		s.BlkioWrite += io.WriteBytes
		s.BlkioReads += io.ReadOps
		s.BlkioWrites += io.WriteOps
	}
	return s
}

func noMax(v uint64) uint64 {
	if v == math.MaxUint64 {
		return 0
	}
	return v
}

// systemTime adds up the first line of /proc/stat (proc_stat(5)) without guest time, which is counted in user time already.
func systemTime(text string) uint64 {
	line, _, _ := strings.Cut(text, "\n")
	var ticks uint64
	for i, f := range strings.Fields(line) {
		if i >= 1 && i <= 8 {
			n, _ := strconv.ParseUint(f, 10, 64)
			ticks += n
		}
	}
	const perTick = uint64(time.Second) / 100 // USER_HZ is 100 on all Linux architectures
	return ticks * perTick
}

// readNetDev reads /proc/net/dev as a network namespace sees it.
func readNetDev(netns string) (string, error) {
	var text []byte
	err := onThread(func() (err error) {
		if err := joinNamespace(netns, unix.CLONE_NEWNET); err != nil {
			return err
		}
		text, err = os.ReadFile("/proc/thread-self/net/dev")
		return err
	})
	if err != nil {
		return "", fmt.Errorf("network counters: %w", err)
	}
	return string(text), nil
}

// parseNetDev reads lines such as "  eth0: 1296 16 0 0 0 0 0 0 816 10 0 0 0 0 0 0"; lo is left out.
func parseNetDev(text string) map[string]NetworkStats {
	out := map[string]NetworkStats{}
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		f := strings.Fields(rest)
		if !ok || name == "lo" || len(f) < 16 {
			continue
		}
		n := make([]uint64, len(f))
		for i := range f {
			n[i], _ = strconv.ParseUint(f[i], 10, 64)
		}
		out[name] = NetworkStats{RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], RxDropped: n[3], TxBytes: n[8], TxPackets: n[9], TxErrors: n[10], TxDropped: n[11]}
	}
	return out
}
