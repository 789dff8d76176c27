// SPDX-License-Identifier: Apache-2.0

package container

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/knarr/knarr/engine/cgroup"
)

// Abilities are what this machine can limit. Docker's info shows them, and fit leaves out what is missing.
type Abilities struct {
	CPUs                                              int
	CpusetCpus, CpusetMems                            string // what may be chosen of, in the kernel's list form; "" = no cpuset controller
	Memory, Swap, Reservation, Swappiness, OOMDisable bool
	CFS, Shares, RealTime, Pids                       bool
	BlkioWeight, BlkioWeightDevice, BlkioThrottle     bool
}

// Abilities of this machine, as they were when the engine was opened.
func (e *Engine) Abilities() Abilities { return e.abilities }

// abilitiesOf asks the root groups: on v1 a limit is there when its file is. The root of v2 shows none, so there the controller
// stands for all its files, of which every kernel that we run on has the same.
func abilitiesOf(l cgroup.Layout) Abilities {
	v1 := func(controller, file string) bool {
		return l.V1[controller] != "" && exists(filepath.Join(l.V1[controller], file))
	}
	v2 := func(controller string) bool {
		return l.V1[controller] == "" && slices.Contains(l.Controllers, controller)
	}
	a := Abilities{
		CPUs:       runtime.NumCPU(),
		Memory:     v1("memory", "memory.limit_in_bytes") || v2("memory"),
		Swap:       swapLimit(l),
		Swappiness: v1("memory", "memory.swappiness"), OOMDisable: v1("memory", "memory.oom_control"),
		Reservation: v1("memory", "memory.soft_limit_in_bytes") || v2("memory"),
		CFS:         v1("cpu", "cpu.cfs_quota_us") || v2("cpu"), Shares: v1("cpu", "cpu.shares") || v2("cpu"),
		RealTime: v1("cpu", "cpu.rt_runtime_us"), Pids: l.V1["pids"] != "" || v2("pids"),
		BlkioWeight: v1("blkio", "blkio.weight") || v2("io"), BlkioWeightDevice: v1("blkio", "blkio.weight_device"),
		BlkioThrottle: v1("blkio", "blkio.throttle.read_bps_device") || v2("io"),
	}
	read := func(file string) string {
		text, _ := os.ReadFile(file)
		return strings.TrimSpace(string(text))
	}
	if root := l.V1["cpuset"]; root != "" {
		a.CpusetCpus, a.CpusetMems = read(filepath.Join(root, "cpuset.cpus")), read(filepath.Join(root, "cpuset.mems"))
	} else if v2("cpuset") {
		a.CpusetCpus, a.CpusetMems = read(filepath.Join(l.Unified, "cpuset.cpus.effective")), read(filepath.Join(l.Unified, "cpuset.mems.effective"))
	}
	return a
}
