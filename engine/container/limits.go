// SPDX-License-Identifier: Apache-2.0

package container

import (
	"regexp"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/errs"
)

const (
	minNanoCPUs = 1_000_000 // a thousandth: the kernel's least quota in its longest period
	cfsPeriod   = 100_000   // µs; the kernel's default
	maxPeriod   = 1_000_000
)

// linuxResources maps the limits to the runtime's; a zero is no limit and is left out. Block devices are blockIO's.
func linuxResources(r Resources, swapLimit bool) *specs.LinuxResources {
	out := &specs.LinuxResources{HugepageLimits: r.Hugepages, Unified: r.Unified}
	cpu := specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	cpu.Shares = nonZero(r.CPUShares)
	cpu.Period = nonZero(r.CPUPeriod)
	cpu.Quota = nonZero(r.CPUQuota)
	cpu.RealtimePeriod = nonZero(uint64(max(0, r.CPURealtimePeriod)))
	cpu.RealtimeRuntime = nonZero(r.CPURealtimeRuntime)
	if r.NanoCPUs > 0 {
		period := uint64(cfsPeriod)
		if r.NanoCPUs < 1e7 { // its quota in the usual period would be below what the kernel takes
			period = maxPeriod
		}
		quota := r.NanoCPUs * int64(period) / 1e9
		cpu.Period, cpu.Quota = &period, &quota
	}
	if cpu != (specs.LinuxCPU{}) {
		out.CPU = &cpu
	}
	mem := specs.LinuxMemory{Limit: nonZero(r.Memory), Reservation: nonZero(r.MemoryReservation)}
	if swapLimit && r.Memory > 0 {
		swap := r.MemorySwap
		if swap == 0 {
			swap = 2 * r.Memory // Docker's default: as much swap as memory
		}
		mem.Swap = &swap
	}
	if r.MemorySwappiness != nil {
		s := uint64(*r.MemorySwappiness)
		mem.Swappiness = &s
	}
	if r.OOMKillDisable {
		mem.DisableOOMKiller = &r.OOMKillDisable
	}
	if mem != (specs.LinuxMemory{}) {
		out.Memory = &mem
	}
	if r.PidsLimit != 0 {
		limit := max(r.PidsLimit, -1)
		out.Pids = &specs.LinuxPids{Limit: &limit}
	}
	return out
}

// blockIO finds the block devices' numbers; nil when nothing is limited.
func blockIO(r Resources) (*specs.LinuxBlockIO, error) {
	var out specs.LinuxBlockIO
	any := r.BlkioWeight != 0
	out.Weight = nonZero(r.BlkioWeight)
	for _, d := range r.BlkioWeightDevice {
		dev, err := blockDevice(d.Path)
		if err != nil {
			return nil, err
		}
		weight := uint16(d.Rate)
		w := specs.LinuxWeightDevice{Weight: &weight}
		w.Major, w.Minor = dev.Major, dev.Minor
		out.WeightDevice, any = append(out.WeightDevice, w), true
	}
	for _, l := range []struct {
		from []DeviceRate
		to   *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioReadBps, &out.ThrottleReadBpsDevice}, {r.BlkioWriteBps, &out.ThrottleWriteBpsDevice},
		{r.BlkioReadIOps, &out.ThrottleReadIOPSDevice}, {r.BlkioWriteIOps, &out.ThrottleWriteIOPSDevice},
	} {
		for _, d := range l.from {
			dev, err := blockDevice(d.Path)
			if err != nil {
				return nil, err
			}
			t := specs.LinuxThrottleDevice{Rate: d.Rate}
			t.Major, t.Minor = dev.Major, dev.Minor
			*l.to, any = append(*l.to, t), true
		}
	}
	if !any {
		return nil, nil
	}
	return &out, nil
}

func blockDevice(path string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return specs.LinuxDevice{}, errs.New(errs.Invalid, "block I/O limit of %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return specs.LinuxDevice{}, errs.New(errs.Invalid, "block I/O limit of %s: it is not a block device", path)
	}
	return specs.LinuxDevice{Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev))}, nil
}

var deviceRuleForm = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// parseDeviceRule reads "c 10:200 rwm", where a number may be "*".
func parseDeviceRule(rule string) (specs.LinuxDeviceCgroup, error) {
	m := deviceRuleForm.FindStringSubmatch(rule)
	if m == nil {
		return specs.LinuxDeviceCgroup{}, errs.New(errs.Invalid, "invalid device cgroup rule format: '%s'", rule)
	}
	out := specs.LinuxDeviceCgroup{Allow: true, Type: m[1], Access: m[4]}
	for i, to := range []**int64{&out.Major, &out.Minor} {
		if m[2+i] == "*" {
			continue
		}
		n, err := strconv.ParseInt(m[2+i], 10, 32)
		if err != nil {
			return out, errs.New(errs.Invalid, "invalid device cgroup rule format: '%s'", rule)
		}
		*to = &n
	}
	return out, nil
}
