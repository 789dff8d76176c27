// SPDX-License-Identifier: Apache-2.0

package container

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/knarr/knarr/engine/oci"
	"github.com/knarr/knarr/internal/errs"
)

// The defaults below are Docker's: what images have been built against since 2014.
var (
	defaultCapabilities = [...]string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
	defaultMasked = [...]string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
		"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
	defaultReadonly = [...]string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// capabilities answers what the container's processes may have at most, sorted, and cut down to bounding: what this daemon
// does not have it cannot give.
func capabilities(s Security, bounding []string) ([]string, error) {
	want := map[string]bool{}
	for _, c := range defaultCapabilities {
		want[c] = true
	}
	if s.Privileged {
		for _, c := range bounding {
			want[c] = true
		}
	}
	change := func(names []string, field string, to bool) error {
		for _, n := range names {
			c := strings.ToUpper(n)
			if c == "ALL" {
				for _, c := range knownCapabilities {
					want[c] = to
				}
				continue
			}
			if !strings.HasPrefix(c, "CAP_") {
				c = "CAP_" + c
			}
			if !slices.Contains(knownCapabilities[:], c) {
				return errs.New(errs.Invalid, "invalid %s: unknown capability: %q", field, n)
			}
			want[c] = to
		}
		return nil
	}
	// "ALL" first in each list, so that "drop ALL, add X" and "add ALL, drop X" mean what they say in any order.
	if slices.ContainsFunc(s.CapDrop, isAll) {
		clear(want)
	}
	if err := change(s.CapAdd, "CapAdd", true); err != nil {
		return nil, err
	}
	if err := change(slices.DeleteFunc(slices.Clone(s.CapDrop), isAll), "CapDrop", false); err != nil {
		return nil, err
	}
	var out []string
	for _, c := range bounding {
		if want[c] {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return out, nil
}

func isAll(name string) bool { return strings.EqualFold(name, "ALL") }

// processCapabilities are a process's sets. One that is not root has none at once, but may get what a setuid or capable
// program gives it. The inheritable set is empty (CVE-2022-24769), and so is therefore the ambient one.
func processCapabilities(caps []string, u specs.User) *specs.LinuxCapabilities {
	c := &specs.LinuxCapabilities{Bounding: caps}
	if u.UID == 0 {
		c.Effective, c.Permitted = caps, caps
	}
	return c
}

// deviceRules say which devices may be used: the pseudo devices that every program expects, any mknod, and what was passed.
func deviceRules(p Plan) []specs.LinuxDeviceCgroup {
	if p.Spec.Security.Privileged {
		return []specs.LinuxDeviceCgroup{{Allow: true, Type: "a", Access: "rwm"}}
	}
	rules := []specs.LinuxDeviceCgroup{
		{Allow: false, Type: "a", Access: "rwm"},
		{Allow: true, Type: "c", Access: "m"},
		{Allow: true, Type: "b", Access: "m"},
	}
	for _, d := range [...][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {136, -1}} {
		r := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &d[0], Access: "rwm"}
		if d[1] >= 0 {
			r.Minor = &d[1]
		}
		rules = append(rules, r)
	}
	return append(rules, p.DeviceRule...)
}

// seccompProfiles computes profiles and keeps them: Docker's default has some 400 names and depends on little.
// mu guards byCaps. What it answers is shared and read only.
type seccompProfiles struct {
	mu     sync.Mutex
	byCaps map[string]*specs.LinuxSeccomp
	filter map[*specs.LinuxSeccomp]*oci.Filter // of those that have been used
}

func newSeccompProfiles() *seccompProfiles {
	return &seccompProfiles{byCaps: map[string]*specs.LinuxSeccomp{}, filter: map[*specs.LinuxSeccomp]*oci.Filter{}}
}

// Filter is the compiled form of a profile that Profile answered. It is nil for one that cannot be compiled: whoever creates the
// container finds that out again, and says why.
func (s *seccompProfiles) Filter(p *specs.LinuxSeccomp) *oci.Filter {
	if p == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, known := s.filter[p]
	if !known {
		f, _ = oci.CompileFilter(p)
		s.filter[p] = f
	}
	return f
}

// Profile reads a profile ("" is the default one) for a process with the capabilities. What cannot be read, or would
// confine nothing, is an error: never an unconfined container in its place (CVE-2023-2431).
func (s *seccompProfiles) Profile(body string, caps []string) (*specs.LinuxSeccomp, error) {
	key := strings.Join(caps, ",") + "\n" + body
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.byCaps[key]; p != nil {
		return p, nil
	}
	view := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}}
	var profile *specs.LinuxSeccomp
	var err error
	if body == "" {
		profile, err = seccomp.GetDefaultProfile(view)
	} else {
		profile, err = customProfile(body, view)
	}
	if err != nil {
		return nil, err
	}
	if len(s.byCaps) >= maxProfiles {
		clear(s.byCaps)
		clear(s.filter)
	}
	s.byCaps[key] = profile
	return profile, nil
}

const maxProfiles = 64

func customProfile(body string, view *specs.Spec) (*specs.LinuxSeccomp, error) {
	if !json.Valid([]byte(body)) {
		return nil, errs.New(errs.Invalid, "the seccomp profile is not JSON")
	}
	profile, err := seccomp.LoadProfile(body, view)
	if err != nil {
		return nil, errs.New(errs.Invalid, "seccomp profile: %w", err)
	}
	if profile == nil || profile.DefaultAction == "" {
		return nil, errs.New(errs.Invalid, "the seccomp profile has no defaultAction")
	}
	return profile, nil
}

// knownCapabilities is the kernel's list up to CAP_CHECKPOINT_RESTORE (5.9); none has come since.
var knownCapabilities = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
	"CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
	"CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
	"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// boundingFromMask lists the capabilities of a mask as /proc/self/status shows it.
func boundingFromMask(mask uint64) []string {
	var out []string
	for i, name := range knownCapabilities {
		if mask&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}

func parseBounding(status string) ([]string, error) {
	for line := range strings.Lines(status) {
		if hex, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			var mask uint64
			if _, err := fmt.Sscanf(strings.TrimSpace(hex), "%x", &mask); err != nil {
				return nil, fmt.Errorf("read the capability bounding set: %w", err)
			}
			return boundingFromMask(mask), nil
		}
	}
	return nil, errs.New(errs.Unsupported, "the kernel shows no capability bounding set")
}
