// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/knarr/knarr/internal/errs"
)

const (
	minMemory    = 6 << 20 // less cannot even hold the processes that set a container up
	maxCPUNumber = 1 << 13 // the kernel's own bound on CPUs; it also bounds what a list can make us do
)

// fit cuts limits down to what the machine has, with a warning for each it leaves out, and says every fault of the rest.
// With update r are the changes alone, and what it does not name is there already. The sentences are Docker's: people and
// scripts know them.
func fit(r Resources, a Abilities, update bool) (Resources, []string, error) {
	f := fitting{r: r, a: a, update: update}
	f.memory()
	f.cpu()
	f.cpuset()
	f.blkio()
	if f.r.PidsLimit != 0 && !a.Pids {
		if f.r.PidsLimit > 0 {
			f.warn("Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.")
		}
		f.r.PidsLimit = 0
	}
	return f.r, f.warnings, errors.Join(f.faults.list...)
}

type fitting struct {
	faults
	r        Resources
	a        Abilities
	update   bool
	warnings []string
}

func (f *fitting) warn(text string) { f.warnings = append(f.warnings, text) }

func (f *fitting) memory() {
	r := &f.r
	if r.Memory > 0 && !f.a.Memory {
		f.warn("Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.Memory, r.MemorySwap = 0, 0
	}
	if r.Memory > 0 && r.MemorySwap != -1 && !f.a.Swap {
		f.warn("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.")
		r.MemorySwap = -1
	}
	switch {
	case r.Memory < 0 || r.MemorySwap < -1 || r.MemoryReservation < 0:
		f.add("memory limits cannot be negative")
	case r.Memory != 0 && r.Memory < minMemory:
		f.add("Minimum memory limit allowed is 6MB")
	case r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		f.add("Minimum memoryswap limit should be larger than memory limit, see usage")
	case r.Memory == 0 && r.MemorySwap > 0 && !f.update:
		f.add("You should always set the Memory limit when using Memoryswap limit, see usage")
	}
	if r.Memory > 0 && r.MemorySwap == 0 && !f.update {
		r.MemorySwap = 2 * r.Memory // as much swap as memory, unless somebody says otherwise
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness == -1 { // how old clients say "the parent's"
		r.MemorySwappiness = nil
	}
	if r.MemorySwappiness != nil && !f.a.Swappiness {
		f.warn("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")
		r.MemorySwappiness = nil
	}
	if s := r.MemorySwappiness; s != nil && (*s < 0 || *s > 100) {
		f.add("Invalid value: %v, valid memory swappiness range is 0-100", *s)
	}
	if r.MemoryReservation > 0 && !f.a.Reservation {
		f.warn("Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.MemoryReservation = 0
	}
	if r.MemoryReservation > 0 && r.MemoryReservation < minMemory {
		f.add("Minimum memory reservation allowed is 6MB")
	}
	if r.Memory > 0 && r.MemoryReservation > r.Memory {
		f.add("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	if r.OOMKillDisable && !f.a.OOMDisable {
		f.warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
		r.OOMKillDisable = false
	}
	if r.OOMKillDisable && r.Memory == 0 {
		f.warn("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
	}
}

func (f *fitting) cpu() {
	r := &f.r
	if r.NanoCPUs > 0 && r.CPUPeriod > 0 {
		f.add("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	}
	if r.NanoCPUs > 0 && r.CPUQuota > 0 {
		f.add("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	}
	switch {
	case r.NanoCPUs == 0:
	case !f.a.CFS:
		f.add("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted")
	case r.NanoCPUs < minNanoCPUs || r.NanoCPUs > int64(f.a.CPUs)*1e9:
		f.add("range of CPUs is from 0.01 to %d.00, as there are only %[1]d CPUs available", f.a.CPUs)
	}
	if r.CPUShares > 0 && !f.a.Shares {
		f.warn("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.")
		r.CPUShares = 0
	}
	if (r.CPUPeriod != 0 || r.CPUQuota != 0) && !f.a.CFS {
		f.warn("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
		r.CPUPeriod, r.CPUQuota = 0, 0
	}
	if r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1_000_000) {
		f.add("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	}
	if r.CPUQuota > 0 && r.CPUQuota < 1000 {
		f.add("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	}
	if (r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0) && !f.a.RealTime {
		f.add("Your kernel does not support cgroup CPU real-time scheduling (CONFIG_RT_GROUP_SCHED, cgroup v1)")
	}
	if r.CPURealtimePeriod < 0 || r.CPURealtimeRuntime < 0 {
		f.add("CPU real-time period and runtime cannot be negative")
	}
	if p := r.CPURealtimePeriod; p > 0 && r.CPURealtimeRuntime > p {
		f.add("CPU real-time runtime cannot be larger than the CPU real-time period")
	}
}

func (f *fitting) cpuset() {
	r := &f.r
	if r.CpusetCpus == "" && r.CpusetMems == "" {
		return
	}
	if f.a.CpusetCpus == "" {
		f.warn("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.")
		r.CpusetCpus, r.CpusetMems = "", ""
		return
	}
	for _, set := range []struct{ asked, have, what, plural string }{
		{r.CpusetCpus, f.a.CpusetCpus, "cpuset cpus", "CPUs"},
		{r.CpusetMems, f.a.CpusetMems, "cpuset mems", "memory nodes"},
	} {
		if set.asked == "" {
			continue
		}
		asked, err := parseNumbers(set.asked)
		if err != nil {
			f.add("Invalid value %s for %s", set.asked, set.what)
			continue
		}
		have, _ := parseNumbers(set.have) // the kernel's own form
		for n := range asked {
			if !have[n] {
				f.add("Requested %s are not available - requested %s, available: %s", set.plural, set.asked, set.have)
				break
			}
		}
	}
}

// parseNumbers reads the kernel's list form: "0-2,7".
func parseNumbers(list string) (map[int]bool, error) {
	out := map[int]bool{}
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err := errors.Join(err, err2); err != nil || from > to || to >= maxCPUNumber {
			return nil, errs.New(errs.Invalid, "%q is no list of numbers", list)
		}
		for n := from; n <= to; n++ {
			out[int(n)] = true
		}
	}
	return out, nil
}

func (f *fitting) blkio() {
	r := &f.r
	if r.BlkioWeight > 0 && !f.a.BlkioWeight {
		f.warn("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
		r.BlkioWeight = 0
	}
	if r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
		f.add("Range of blkio weight is from 10 to 1000")
	}
	if len(r.BlkioWeightDevice) > 0 && !f.a.BlkioWeightDevice {
		f.warn("Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.")
		r.BlkioWeightDevice = nil
	}
	for _, d := range r.BlkioWeightDevice {
		if d.Rate < 10 || d.Rate > 1000 {
			f.add("Range of blkio weight is from 10 to 1000: %s", d.Path)
		}
	}
	for _, t := range []struct {
		list *[]DeviceRate
		what string
	}{{&r.BlkioReadBps, "BPS read"}, {&r.BlkioWriteBps, "BPS write"}, {&r.BlkioReadIOps, "IOPS read"}, {&r.BlkioWriteIOps, "IOPS write"}} {
		if len(*t.list) > 0 && !f.a.BlkioThrottle {
			unit, way, _ := strings.Cut(t.what, " ")
			f.warn(fmt.Sprintf("Your kernel does not support %s Block I/O %s limit or the cgroup is not mounted. Block I/O %[1]s %s limit discarded.", unit, way))
			*t.list = nil
		}
	}
}
