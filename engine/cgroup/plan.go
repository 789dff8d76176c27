// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

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
		// A reservation (MAP_NORESERVE left out) counts before a page is touched; kernels since 5.7 limit it apart.
		p.add("hugetlb", "hugetlb."+h.Pagesize+".rsvd.limit_in_bytes", "hugetlb."+h.Pagesize+".rsvd.max", v)
		p.optional()
	}
	p.network(r.Network)
	p.rdma(r.Rdma)
	if b := r.BlockIO; b != nil {
		p.blockIO(b)
	}
	p.unified(r.Unified)
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
		p.each("cpu", "cpu.shares", strconv.FormatUint(*c.Shares, 10), "cpu.weight", strconv.FormatUint(cpuWeight(*c.Shares), 10))
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
	if c.Burst != nil {
		p.add("cpu", "cpu.cfs_burst_us", "cpu.max.burst", strconv.FormatUint(*c.Burst, 10))
	}
	p.realtime(c)
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
		p.weight("", *b.Weight)
	}
	leaves := p.layout.V1["blkio"] != "" // on v2 only leaves hold processes, and so it has no such thing
	if leaves && b.LeafWeight != nil && *b.LeafWeight != 0 {
		p.add("blkio", "blkio.leaf_weight", "", strconv.Itoa(int(*b.LeafWeight)))
		p.optional()
	}
	for _, d := range b.WeightDevice {
		device := fmt.Sprintf("%d:%d ", d.Major, d.Minor)
		if d.Weight != nil && *d.Weight != 0 {
			p.weight(device, *d.Weight)
		}
		if leaves && d.LeafWeight != nil && *d.LeafWeight != 0 {
			p.add("blkio", "blkio.leaf_weight_device", "", device+strconv.Itoa(int(*d.LeafWeight)))
			p.optional()
		}
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
				continue
			}
			rate := strconv.FormatUint(d.Rate, 10)
			if d.Rate == 0 { // no limit, as on v1
				rate = "max"
			}
			p.add("io", "", "io.max", fmt.Sprintf("%d:%d %s=%s", d.Major, d.Minor, t.v2, rate))
		}
	}
}

// weight plans an I/O weight, of a device ("8:0 ") or of all. Which file there is depends on the block scheduler: bfq has one of its own
// on both versions, and it takes v1's range, 10..1000, on both.
func (p *plan) weight(device string, w uint16) {
	v1, v2 := strconv.Itoa(int(w)), strconv.Itoa(ioWeight(w))
	file, bfq, general := "blkio.weight", "blkio.bfq.weight", v1
	controller := "blkio"
	if p.layout.V1["blkio"] == "" {
		file, bfq, general, controller = "io.weight", "io.bfq.weight", v2, "io"
	}
	if device != "" && controller == "blkio" {
		file, bfq = "blkio.weight_device", "blkio.bfq.weight_device"
	}
	for _, one := range [][2]string{{bfq, v1}, {file, general}} {
		p.add(controller, one[0], one[0], device+one[1])
		p.optional()
	}
}

// ioWeight maps v1's 10..1000 to v2's 1..10000.
func ioWeight(w uint16) int { return 1 + (int(max(w, 10))-10)*9999/990 }

// realtime is v1's alone: v2 lets realtime threads into the root group only. The runtime must fit into the period at every
// moment and a new group's is 0, so the period comes first.
func (p *plan) realtime(c *specs.LinuxCPU) {
	if c.RealtimePeriod != nil && *c.RealtimePeriod != 0 {
		p.v1Only("cpu", "cpu.rt_period_us", strconv.FormatUint(*c.RealtimePeriod, 10))
	}
	if c.RealtimeRuntime != nil && *c.RealtimeRuntime != 0 {
		p.v1Only("cpu", "cpu.rt_runtime_us", strconv.FormatInt(*c.RealtimeRuntime, 10))
	}
}

// network marks and ranks packets, on v1. v2 gave this up for filters on the group, so there it cannot be had.
func (p *plan) network(n *specs.LinuxNetwork) {
	if n == nil {
		return
	}
	if n.ClassID != nil && *n.ClassID != 0 {
		p.v1Only("net_cls", "net_cls.classid", strconv.FormatUint(uint64(*n.ClassID), 10))
	}
	for _, i := range n.Priorities {
		p.v1Only("net_prio", "net_prio.ifpriomap", i.Name+" "+strconv.FormatUint(uint64(i.Priority), 10))
	}
}

// rdma is the same on both versions.
func (p *plan) rdma(devices map[string]specs.LinuxRdma) {
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		value, d := name, devices[name]
		if d.HcaHandles != nil {
			value += " hca_handle=" + strconv.FormatUint(uint64(*d.HcaHandles), 10)
		}
		if d.HcaObjects != nil {
			value += " hca_object=" + strconv.FormatUint(uint64(*d.HcaObjects), 10)
		}
		if value != name {
			p.add("rdma", "rdma.max", "rdma.max", value)
		}
	}
}

// unified are v2's own files by their names. They come last and so win over what the other fields say.
func (p *plan) unified(files map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		controller, _, _ := strings.Cut(name, ".")
		switch {
		case strings.ContainsAny(name, "/\x00\n") || controller == name:
			p.faults = append(p.faults, errs.New(errs.Invalid, "linux.resources.unified: %q is no control file", name))
		case p.layout.Unified == "" || controller != "cgroup" && !slices.Contains(p.layout.Controllers, controller):
			p.faults = append(p.faults, errs.New(errs.Unsupported, "linux.resources.unified[%s]: this machine has no %s controller on cgroup v2", name, controller))
		default:
			p.writes = append(p.writes, Write{Controller: "unified", File: name, Value: files[name]})
		}
	}
}

// cpuWeight maps v1 cpu shares, 2..262144 with default 1024, to a v2 weight, 1..10000, linearly, as all runtimes and the
// kubelet do.
func cpuWeight(shares uint64) uint64 {
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
