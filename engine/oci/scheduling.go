// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// standing is how the kernel treats a process beside its limits: its scheduler, its turn at the disks, its memory nodes, its
// personality. All are the calling thread's and stay across exec. Numbers are the kernel's.
type standing struct {
	Scheduler   *unix.SchedAttr `json:"scheduler,omitempty"`
	IOPriority  int             `json:"ioPriority,omitempty"`
	CPUs        []int           `json:"cpus,omitempty"` // of an exec, once it runs
	Personality *uint32         `json:"personality,omitempty"`
	MemoryMode  *uint           `json:"memoryMode,omitempty"`
	MemoryNodes []int           `json:"memoryNodes,omitempty"`
}

var (
	schedPolicies = map[specs.LinuxSchedulerPolicy]uint32{specs.SchedOther: 0, specs.SchedFIFO: 1, specs.SchedRR: 2, specs.SchedBatch: 3,
		specs.SchedISO: 4, specs.SchedIdle: 5, specs.SchedDeadline: 6}
	schedFlags = map[specs.LinuxSchedulerFlag]uint64{specs.SchedFlagResetOnFork: 1, specs.SchedFlagReclaim: 2, specs.SchedFlagDLOverrun: 4,
		specs.SchedFlagKeepPolicy: 8, specs.SchedFlagKeepParams: 16, specs.SchedFlagUtilClampMin: 32, specs.SchedFlagUtilClampMax: 64}
	ioClasses     = map[specs.IOPriorityClass]int{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}
	personalities = map[specs.LinuxPersonalityDomain]uint32{specs.PerLinux: 0, specs.PerLinux32: 8}
	memoryModes   = map[string]uint{"MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4,
		"MPOL_PREFERRED_MANY": 5, "MPOL_WEIGHTED_INTERLEAVE": 6}
	memoryFlags = map[string]uint{"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}
)

// standingOf decides it, and refuses words that the specification does not have. linux is nil for an exec.
func standingOf(p *specs.Process, linux *specs.Linux) (*standing, error) {
	s := new(standing)
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, errs.New(errs.Invalid, format, args...)) }
	if c := p.Scheduler; c != nil {
		policy, ok := schedPolicies[c.Policy]
		if !ok {
			fault("process.scheduler.policy: %q is unknown", c.Policy)
		}
		s.Scheduler = &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Nice: c.Nice, Priority: uint32(c.Priority),
			Runtime: c.Runtime, Deadline: c.Deadline, Period: c.Period}
		for _, f := range c.Flags {
			bit, ok := schedFlags[f]
			if !ok {
				fault("process.scheduler.flags: %q is unknown", f)
			}
			s.Scheduler.Flags |= bit
		}
	}
	if io := p.IOPriority; io != nil {
		class, ok := ioClasses[io.Class]
		if !ok || io.Priority < 0 || io.Priority > 7 {
			fault("process.ioPriority: class %q with priority %d; there are IOPRIO_CLASS_RT, _BE and _IDLE with 0 to 7", io.Class, io.Priority)
		}
		s.IOPriority = class<<13 | io.Priority
	}
	if a := p.ExecCPUAffinity; a != nil && linux == nil {
		list := a.Final
		if list == "" {
			list = a.Initial
		}
		var err error
		if s.CPUs, err = parseList(list); err != nil {
			fault("process.execCPUAffinity: %v", err)
		}
	}
	if linux != nil {
		faults = append(faults, s.ofContainer(linux)...)
	}
	return s, errors.Join(faults...)
}

func (s *standing) ofContainer(l *specs.Linux) (faults []error) {
	fault := func(kind error, format string, args ...any) { faults = append(faults, errs.New(kind, format, args...)) }
	if p := l.Personality; p != nil {
		domain, ok := personalities[p.Domain]
		if !ok || len(p.Flags) > 0 {
			fault(errs.Invalid, "linux.personality: domain %q with flags %v; there are LINUX and LINUX32, without flags", p.Domain, p.Flags)
		}
		s.Personality = &domain
	}
	if m := l.MemoryPolicy; m != nil {
		mode, ok := memoryModes[string(m.Mode)]
		if !ok {
			fault(errs.Invalid, "linux.memoryPolicy.mode: %q is unknown", m.Mode)
		}
		for _, f := range m.Flags {
			bit, ok := memoryFlags[string(f)]
			if !ok {
				fault(errs.Invalid, "linux.memoryPolicy.flags: %q is unknown", f)
			}
			mode |= bit
		}
		var err error
		if s.MemoryNodes, err = parseList(m.Nodes); err != nil {
			fault(errs.Invalid, "linux.memoryPolicy.nodes: %v", err)
		}
		s.MemoryMode = &mode
	}
	// What is asked for and not done would be a promise broken in silence.
	if l.IntelRdt != nil {
		fault(errs.Unsupported, "linux.intelRdt: cache and bandwidth allocation is not supported; leave it out")
	}
	if len(l.NetDevices) > 0 {
		fault(errs.Unsupported, "linux.netDevices: moving network devices is not supported; have a createRuntime hook do it")
	}
	return faults
}

// parseList reads the kernel's list of numbers, "0-3,7"; at most 4096 of them.
func parseList(text string) ([]int, error) {
	var list []int
	for _, part := range strings.Split(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		first, last, isRange := strings.Cut(part, "-")
		from, err := strconv.ParseUint(first, 10, 12)
		to := from
		if err == nil && isRange {
			to, err = strconv.ParseUint(last, 10, 12)
		}
		if err != nil || to < from || len(list)+int(to-from) >= 4096 {
			return nil, errs.New(errs.Invalid, "%q is no list of numbers like 0-3,7", text)
		}
		for n := from; n <= to; n++ {
			list = append(list, int(n))
		}
	}
	return list, nil
}

// take puts the calling thread into this standing; it needs the privileges that the program may not have.
func (s *standing) take() error {
	if s == nil {
		return nil
	}
	if s.Scheduler != nil {
		if err := unix.SchedSetAttr(0, s.Scheduler, 0); err != nil {
			return fmt.Errorf("set process.scheduler: %w", err)
		}
	}
	if s.IOPriority != 0 {
		if _, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_SET, 1, 0, uintptr(s.IOPriority)); errno != 0 {
			return fmt.Errorf("set process.ioPriority: %w", errno)
		}
	}
	if len(s.CPUs) > 0 {
		var set unix.CPUSet
		for _, n := range s.CPUs {
			set.Set(n)
		}
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("set process.execCPUAffinity: %w", err)
		}
	}
	if s.MemoryMode != nil {
		var nodes [4096/64 + 1]uint64
		for _, n := range s.MemoryNodes {
			nodes[n/64] |= 1 << (n % 64)
		}
		count := uintptr(1024 + 1) // the kernel's most nodes, and it reads one less
		if len(s.MemoryNodes) == 0 {
			count = 0
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SET_MEMPOLICY, uintptr(*s.MemoryMode), uintptr(unsafe.Pointer(&nodes[0])), count); errno != 0 {
			return fmt.Errorf("set linux.memoryPolicy: %w", errno)
		}
	}
	if s.Personality != nil {
		if _, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, uintptr(*s.Personality), 0, 0); errno != 0 {
			return fmt.Errorf("set linux.personality: %w", errno)
		}
	}
	return nil
}
