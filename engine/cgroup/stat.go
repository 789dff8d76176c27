// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"math"
	"os"
	"strconv"
	"strings"
)

// Stat is what a group uses. What the machine does not count is zero.
type Stat struct {
	CPU    CPU
	Memory Memory
	Pids   Pids
	IO     []IO
}

// CPU counts processor time in nanoseconds.
type CPU struct {
	Usage, User, System uint64
	PerCPU              []uint64 // v1 only
	Periods             uint64   // quota periods that have passed
	Throttled           uint64   // of them, those in which the group was stopped
	ThrottledTime       uint64
}

// Memory is in bytes. Limit is math.MaxUint64 when there is none.
type Memory struct {
	Usage, Limit uint64
	WorkingSet   uint64 // usage without the file cache that can go at once, as the kubelet counts it
	Peak         uint64
	RSS, Cache   uint64
	Mapped       uint64
	Swap         uint64
	Faults       uint64
	MajorFaults  uint64
	OOMKills     uint64
	Raw          map[string]uint64 // memory.stat as the kernel gives it
}

// Pids counts tasks. Limit is math.MaxUint64 when there is none.
type Pids struct{ Current, Limit uint64 }

// IO counts one block device.
type IO struct {
	Major, Minor                             uint64
	ReadBytes, WriteBytes, ReadOps, WriteOps uint64
}

// Stat reads the group's counters.
func (c *Cgroup) Stat() (Stat, error) {
	if _, err := os.Stat(c.procsDir()); err != nil {
		return Stat{}, err
	}
	s := Stat{CPU: c.cpu(), Memory: c.memory(), IO: c.io()}
	s.Pids.Current = c.number("pids", "pids.current")
	s.Pids.Limit = c.number("pids", "pids.max")
	return s, nil
}

func (c *Cgroup) cpu() CPU {
	var u CPU
	if c.v1("cpu") {
		t := c.table("cpu", "cpu.stat")
		u.Periods, u.Throttled, u.ThrottledTime = t["nr_periods"], t["nr_throttled"], t["throttled_time"]
		u.Usage = c.number("cpuacct", "cpuacct.usage")
		u.User = c.number("cpuacct", "cpuacct.usage_user")
		u.System = c.number("cpuacct", "cpuacct.usage_sys")
		for _, f := range strings.Fields(c.text("cpuacct", "cpuacct.usage_percpu")) {
			u.PerCPU = append(u.PerCPU, parse(f))
		}
		return u
	}
	t := parseTable(read(c.unified("cpu.stat"))) // there even where the controller is not
	u.Usage, u.User, u.System = t["usage_usec"]*1000, t["user_usec"]*1000, t["system_usec"]*1000
	u.Periods, u.Throttled, u.ThrottledTime = t["nr_periods"], t["nr_throttled"], t["throttled_usec"]*1000
	return u
}

func (c *Cgroup) memory() Memory {
	t := c.table("memory", "memory.stat")
	m := Memory{Raw: t, Faults: t["pgfault"], MajorFaults: t["pgmajfault"], OOMKills: c.OOMKills()}
	inactive := t["inactive_file"]
	if c.v1("memory") {
		m.Usage = c.number("memory", "memory.usage_in_bytes")
		m.Limit = c.number("memory", "memory.limit_in_bytes")
		if m.Limit > math.MaxInt64/4096*4096-4096 {
			m.Limit = math.MaxUint64
		}
		m.Peak = c.number("memory", "memory.max_usage_in_bytes")
		m.RSS, m.Cache, m.Mapped, m.Swap = t["total_rss"], t["total_cache"], t["total_mapped_file"], t["total_swap"]
		m.Faults, m.MajorFaults = t["total_pgfault"], t["total_pgmajfault"]
		inactive = t["total_inactive_file"]
	} else {
		m.Usage = c.number("memory", "memory.current")
		m.Limit = c.number("memory", "memory.max")
		m.Peak = c.number("memory", "memory.peak")
		m.RSS, m.Cache, m.Mapped = t["anon"], t["file"], t["file_mapped"]
		m.Swap = c.number("memory", "memory.swap.current")
	}
	m.WorkingSet = m.Usage - min(inactive, m.Usage)
	return m
}

// OOMKills counts processes of the group that the kernel killed for want of memory.
func (c *Cgroup) OOMKills() uint64 {
	if c.v1("memory") {
		return c.table("memory", "memory.oom_control")["oom_kill"]
	}
	return c.table("memory", "memory.events")["oom_kill"]
}

func (c *Cgroup) io() []IO {
	if c.v1("blkio") {
		return parseBlkio(c.text("blkio", "blkio.throttle.io_service_bytes"), c.text("blkio", "blkio.throttle.io_serviced"))
	}
	return parseIO(c.text("io", "io.stat"))
}

// parseBlkio reads v1 lines such as "8:0 Read 4096".
func parseBlkio(bytes, ops string) []IO {
	var out []IO
	each := func(text string, read, write func(*IO) *uint64) {
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) != 3 {
				continue
			}
			d := device(&out, f[0])
			switch f[1] {
			case "Read":
				*read(d) = parse(f[2])
			case "Write":
				*write(d) = parse(f[2])
			}
		}
	}
	each(bytes, func(d *IO) *uint64 { return &d.ReadBytes }, func(d *IO) *uint64 { return &d.WriteBytes })
	each(ops, func(d *IO) *uint64 { return &d.ReadOps }, func(d *IO) *uint64 { return &d.WriteOps })
	return out
}

// parseIO reads v2 lines such as "8:0 rbytes=4096 wbytes=0 rios=1 wios=0".
func parseIO(text string) []IO {
	var out []IO
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		d := device(&out, f[0])
		for _, kv := range f[1:] {
			k, v, _ := strings.Cut(kv, "=")
			switch k {
			case "rbytes":
				d.ReadBytes = parse(v)
			case "wbytes":
				d.WriteBytes = parse(v)
			case "rios":
				d.ReadOps = parse(v)
			case "wios":
				d.WriteOps = parse(v)
			}
		}
	}
	return out
}

func device(list *[]IO, name string) *IO {
	major, minor, _ := strings.Cut(name, ":")
	ma, mi := parse(major), parse(minor)
	for i := range *list {
		if (*list)[i].Major == ma && (*list)[i].Minor == mi {
			return &(*list)[i]
		}
	}
	*list = append(*list, IO{Major: ma, Minor: mi})
	return &(*list)[len(*list)-1]
}

func (c *Cgroup) text(controller, name string) string {
	file, ok := c.file(controller, name)
	if !ok {
		return ""
	}
	return read(file)
}

func (c *Cgroup) number(controller, name string) uint64 { return parse(c.text(controller, name)) }

func (c *Cgroup) table(controller, name string) map[string]uint64 {
	return parseTable(c.text(controller, name))
}

// parseTable reads the kernel's "key value" lines.
func parseTable(text string) map[string]uint64 {
	t := map[string]uint64{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			t[k] = parse(v)
		}
	}
	return t
}

func read(file string) string {
	text, _ := os.ReadFile(file)
	return string(text)
}

// parse reads a counter; "max" is no limit.
func parse(s string) uint64 {
	s = strings.TrimSpace(s)
	if s == "max" {
		return math.MaxUint64
	}
	v, _ := strconv.ParseUint(s, 10, 64)
	return v
}
