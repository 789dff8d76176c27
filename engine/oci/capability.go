// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// capNames are the capabilities by number (linux/capability.h).
var capNames = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
}

// capSets are five sets of capabilities as bits.
type capSets struct {
	Bounding, Effective, Inheritable, Permitted, Ambient uint64
}

// resolveCaps turns names into bits, no more than have allows: what is missing from this machine's bounding set cannot be given and
// is left out, as for --privileged under an outer runtime. Names the kernel does not know are left out too, with a warning.
// Inheritable is kept only as far as ambient needs it: a file could turn the rest into permitted ones (CVE-2022-29162).
func resolveCaps(c *specs.LinuxCapabilities, have uint64) (capSets, []string) {
	if c == nil {
		return capSets{}, nil
	}
	var warnings []string
	set := func(names []string) uint64 {
		var bits uint64
		for _, name := range names {
			n := capNumber(name)
			if n < 0 {
				warnings = append(warnings, fmt.Sprintf("unknown capability %q is ignored", name))
				continue
			}
			bits |= 1 << n
		}
		return bits & have
	}
	s := capSets{Bounding: set(c.Bounding), Permitted: set(c.Permitted)}
	s.Effective = set(c.Effective) & s.Permitted
	s.Ambient = set(c.Ambient) & set(c.Inheritable) & s.Permitted
	s.Inheritable = s.Ambient
	return s, warnings
}

func capNumber(name string) int {
	name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
	for i, n := range capNames {
		if n == name {
			return i
		}
	}
	return -1
}

// availableCaps are those that can be given: the bounding set, or in a user namespace of its own all there are.
func availableCaps(userNS bool) (uint64, error) {
	if !userNS {
		return boundingSet()
	}
	text, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return 0, err
	}
	last, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 6)
	return 1<<(last+1) - 1, err
}

// boundingSet reads this thread's own bounding set.
func boundingSet() (uint64, error) {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			return strconv.ParseUint(strings.TrimSpace(v), 16, 64)
		}
	}
	return 0, fmt.Errorf("no CapBnd in /proc/thread-self/status")
}

// dropBounding removes from the thread's bounding set what keep lacks; it needs CAP_SETPCAP, so it comes before the rest.
func dropBounding(keep uint64) error {
	for n := range uint(64) {
		if keep&(1<<n) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0)
		if err == unix.EINVAL {
			return nil // past the last one this kernel has
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", n, err)
		}
	}
	return nil
}

// setCaps sets the thread's capabilities, ambient ones last as the kernel wants.
func setCaps(s capSets) error {
	if err := capset(s); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	for n := range uint(64) {
		if s.Ambient&(1<<n) == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n), 0, 0); err != nil {
			return fmt.Errorf("raise ambient capability %d: %w", n, err)
		}
	}
	return nil
}

// capset sets the three sets that capset(2) knows.
func capset(s capSets) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(s.Effective), Permitted: uint32(s.Permitted), Inheritable: uint32(s.Inheritable)},
		{Effective: uint32(s.Effective >> 32), Permitted: uint32(s.Permitted >> 32), Inheritable: uint32(s.Inheritable >> 32)},
	}
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}
