// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Write is one value for one control file.
type Write struct {
	Controller string
	File       string
	Value      string
	Optional   bool // a kernel without this file is no error
}

// Plan says which writes put the resources on a group of this layout, in order. It fails for a limit that the machine
// has no controller for: a limit that silently does not hold is worse than none. Devices on v2 are a program, not a file;
// see Apply.
func (l Layout) Plan(r *specs.LinuxResources) ([]Write, error) {
	p := plan{layout: l}
	if r == nil {
		return nil, nil
	}
	p.cpu(r.CPU)
	p.memory(r.Memory)
	if r.Pids != nil && r.Pids.Limit != nil && *r.Pids.Limit != 0 {
		p.add("pids", "pids.max", "pids.max", orMax(*r.Pids.Limit))
	}
	for _, h := range r.HugepageLimits {
		v := strconv.FormatUint(h.Limit, 10)
		p.add("hugetlb", "hugetlb."+h.Pagesize+".limit_in_bytes", "hugetlb."+h.Pagesize+".max", v)
	}
	if b := r.BlockIO; b != nil {
		p.blockIO(b)
	}
	for name, v := range r.Unified {
		if l.Mode != V2 {
			return nil, errs.New(errs.Unsupported, "linux.resources.unified[%s]: this machine's controllers are on cgroup v1", name)
		}
		p.writes = append(p.writes, Write{Controller: "unified", File: name, Value: v})
	}
	if l.V1["devices"] != "" {
		for _, d := range r.Devices {
			file := "devices.deny"
			if d.Allow {
				file = "devices.allow"
			}
			p.writes = append(p.writes, Write{Controller: "devices", File: file, Value: deviceRule(d)})
		}
	}
	return p.writes, errors.Join(p.faults...)
}

type plan struct {
	layout Layout
	writes []Write
	faults []error
	last   *Write // what was added last, nil when that was a fault
}

// add plans the same value under the v1 or the v2 name; an empty name means that this version has no such thing.
func (p *plan) add(controller, v1, v2, value string) {
	p.each(controller, v1, value, v2, value)
}

func (p *plan) each(controller, v1, v1Value, v2, v2Value string) {
	file, value := v2, v2Value
	if p.layout.V1[controller] != "" {
		file, value = v1, v1Value
	}
	p.last = nil
	if !p.layout.has(controller) {
		p.faults = append(p.faults, errs.New(errs.Unsupported, "this machine has no %s cgroup controller, which %s needs", controller, v2))
		return
	}
	if file != "" {
		p.writes = append(p.writes, Write{Controller: controller, File: file, Value: value})
		p.last = &p.writes[len(p.writes)-1]
	}
}

// v1Only plans what v2 has no counterpart of, and refuses it there.
func (p *plan) v1Only(controller, file, value string) {
	if p.layout.V1[controller] == "" {
		p.faults = append(p.faults, errs.New(errs.Unsupported, "this machine has no cgroup v1 %s controller, which %s needs", controller, file))
		return
	}
	p.add(controller, file, "", value)
}

// optional marks what was just added.
func (p *plan) optional() {
	if p.last != nil {
		p.last.Optional = true
	}
}

func (p *plan) cpu(c *specs.LinuxCPU) {
	if c == nil {
		return
	}
	if c.Shares != nil && *c.Shares != 0 {
		p.each("cpu", "cpu.shares", strconv.FormatUint(*c.Shares, 10), "cpu.weight", strconv.FormatUint(weight(*c.Shares), 10))
	}
	quota, period := int64(0), uint64(0)
	if c.Quota != nil {
		quota = *c.Quota
	}
	if c.Period != nil {
		period = *c.Period
	}
	if period != 0 && p.layout.V1["cpu"] != "" {
		p.add("cpu", "cpu.cfs_period_us", "", strconv.FormatUint(period, 10))
	}
	if quota != 0 && p.layout.V1["cpu"] != "" {
		p.add("cpu", "cpu.cfs_quota_us", "", strconv.FormatInt(max(quota, -1), 10))
	}
	if (quota != 0 || period != 0) && p.layout.V1["cpu"] == "" {
		v := "max"
		if quota > 0 {
			v = strconv.FormatInt(quota, 10)
		}
		if period != 0 {
			v += " " + strconv.FormatUint(period, 10)
		}
		p.add("cpu", "", "cpu.max", v)
	}
	// The runtime must fit into the period at every moment: a new group's is 0, so the period comes first.
	if c.RealtimePeriod != nil && *c.RealtimePeriod != 0 {
		p.v1Only("cpu", "cpu.rt_period_us", strconv.FormatUint(*c.RealtimePeriod, 10))
	}
	if c.RealtimeRuntime != nil && *c.RealtimeRuntime != 0 {
		p.v1Only("cpu", "cpu.rt_runtime_us", strconv.FormatInt(*c.RealtimeRuntime, 10))
	}
	if c.Cpus != "" {
		p.add("cpuset", "cpuset.cpus", "cpuset.cpus", c.Cpus)
	}
	if c.Mems != "" {
		p.add("cpuset", "cpuset.mems", "cpuset.mems", c.Mems)
	}
	if c.Idle != nil {
		p.add("cpu", "cpu.idle", "cpu.idle", strconv.FormatInt(*c.Idle, 10))
		p.optional()
	}
}

func (p *plan) memory(m *specs.LinuxMemory) {
	if m == nil {
		return
	}
	limit, swap := int64(0), int64(0)
	if m.Limit != nil {
		limit = *m.Limit
	}
	if m.Swap != nil {
		swap = *m.Swap
	}
	if limit != 0 {
		p.each("memory", "memory.limit_in_bytes", strconv.FormatInt(limit, 10), "memory.max", orMax(limit))
	}
	if swap != 0 {
		if p.layout.V1["memory"] != "" {
			p.add("memory", "memory.memsw.limit_in_bytes", "", strconv.FormatInt(swap, 10))
		} else if limit > 0 && swap >= limit {
			// OCI counts memory plus swap, v2 swap alone.
			p.add("memory", "", "memory.swap.max", strconv.FormatInt(swap-limit, 10))
		} else if swap < 0 {
			p.add("memory", "", "memory.swap.max", "max")
		} else {
			p.faults = append(p.faults, errs.New(errs.Invalid, "linux.resources.memory.swap: %d is memory plus swap and must be at least the memory limit, %d", swap, limit))
			return
		}
		p.optional() // a kernel without swap accounting
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		p.each("memory", "memory.soft_limit_in_bytes", strconv.FormatInt(*m.Reservation, 10), "memory.low", orMax(*m.Reservation))
	}
	if m.KernelTCP != nil && *m.KernelTCP != 0 { // what the kernel itself uses is part of the limit by now; v1 still tells sockets apart
		p.add("memory", "memory.kmem.tcp.limit_in_bytes", "", strconv.FormatInt(*m.KernelTCP, 10))
		p.optional()
	}
	if m.Swappiness != nil {
		p.add("memory", "memory.swappiness", "", strconv.FormatUint(*m.Swappiness, 10))
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		p.add("memory", "memory.oom_control", "", "1")
	}
}

func (p *plan) blockIO(b *specs.LinuxBlockIO) {
	if b.Weight != nil && *b.Weight != 0 {
		v1 := strconv.Itoa(int(*b.Weight))
		// v1 weighs 10..1000, v2 1..10000 with 100 in the middle of both.
		v2 := strconv.Itoa(1 + (int(*b.Weight)-10)*9999/990)
		if p.layout.V1["blkio"] != "" {
			p.add("blkio", "blkio.weight", "", v1)
		} else {
			p.add("io", "", "io.weight", v2)
		}
		p.optional()
	}
	for _, d := range b.WeightDevice {
		if d.Weight == nil || *d.Weight == 0 {
			continue
		}
		p.v1Only("blkio", "blkio.weight_device", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, *d.Weight))
	}
	for _, t := range []struct {
		devices []specs.LinuxThrottleDevice
		v1, v2  string
	}{
		{b.ThrottleReadBpsDevice, "blkio.throttle.read_bps_device", "rbps"},
		{b.ThrottleWriteBpsDevice, "blkio.throttle.write_bps_device", "wbps"},
		{b.ThrottleReadIOPSDevice, "blkio.throttle.read_iops_device", "riops"},
		{b.ThrottleWriteIOPSDevice, "blkio.throttle.write_iops_device", "wiops"},
	} {
		for _, d := range t.devices {
			if p.layout.V1["blkio"] != "" {
				p.add("blkio", t.v1, "", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, d.Rate))
			} else {
				p.add("io", "", "io.max", fmt.Sprintf("%d:%d %s=%d", d.Major, d.Minor, t.v2, d.Rate))
			}
		}
	}
}

// weight maps v1 cpu shares, 2..262144 with default 1024, to a v2 weight, 1..10000, linearly, as all runtimes and the
// kubelet do.
func weight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}

func orMax(v int64) string {
	if v < 0 {
		return "max"
	}
	return strconv.FormatInt(v, 10)
}

// deviceRule is a rule in the words of v1's devices.allow: type major:minor access.
func deviceRule(d specs.LinuxDeviceCgroup) string {
	typ, access := d.Type, d.Access
	if typ == "" {
		typ = "a"
	}
	if access == "" {
		access = "rwm"
	}
	num := func(n *int64) string {
		if n == nil || *n < 0 {
			return "*"
		}
		return strconv.FormatInt(*n, 10)
	}
	return typ + " " + num(d.Major) + ":" + num(d.Minor) + " " + access
}

// Apply puts the resources on the group. It may be called again, to change them while processes run.
func (c *Cgroup) Apply(r *specs.LinuxResources) error {
	writes, err := c.layout.Plan(r)
	if err != nil {
		return err
	}
	// Raising memory and memory+swap together must start with the larger one, and lowering with the smaller.
	for i, w := range writes {
		if w.File == "memory.limit_in_bytes" && i+1 < len(writes) && writes[i+1].File == "memory.memsw.limit_in_bytes" {
			if c.applyWrite(w) != nil {
				writes[i], writes[i+1] = writes[i+1], writes[i]
			}
			break
		}
	}
	for _, w := range writes {
		if err := c.applyWrite(w); err != nil {
			return fmt.Errorf("apply limits: %w", err)
		}
	}
	if r != nil && len(r.Devices) > 0 && c.layout.V1["devices"] == "" && c.layout.Unified != "" {
		return c.attachDevices(r.Devices)
	}
	return nil
}

func (c *Cgroup) applyWrite(w Write) error {
	file := c.unified(w.File)
	if w.Controller != "unified" {
		file, _ = c.file(w.Controller, w.File)
	}
	err := write(file, w.Value)
	if w.Optional && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
