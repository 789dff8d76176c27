// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"strings"
	"testing"

	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestStandingRefusesWhatItDoesNotKnow(t *testing.T) {
	for want, c := range map[string]struct {
		p specs.Process
		l specs.Linux
	}{
		"scheduler.policy":   {p: specs.Process{Scheduler: &specs.Scheduler{Policy: "SCHED_X"}}},
		"scheduler.flags":    {p: specs.Process{Scheduler: &specs.Scheduler{Policy: specs.SchedOther, Flags: []specs.LinuxSchedulerFlag{"X"}}}},
		"ioPriority":         {p: specs.Process{IOPriority: &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}}},
		"personality":        {l: specs.Linux{Personality: &specs.LinuxPersonality{Domain: "BSD"}}},
		"memoryPolicy.mode":  {l: specs.Linux{MemoryPolicy: &specs.LinuxMemoryPolicy{Mode: "X"}}},
		"memoryPolicy.nodes": {l: specs.Linux{MemoryPolicy: &specs.LinuxMemoryPolicy{Mode: "MPOL_BIND", Nodes: "1-x"}}},
		"intelRdt":           {l: specs.Linux{IntelRdt: &specs.LinuxIntelRdt{}}},
		"netDevices":         {l: specs.Linux{NetDevices: map[string]specs.LinuxNetDevice{"eth0": {}}}},
	} {
		_, err := standingOf(&c.p, &c.l)
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, errs.Invalid) && !errors.Is(err, errs.Unsupported) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestParseList(t *testing.T) {
	for text, want := range map[string]int{"": 0, "0": 1, "0-3,7": 5, "3-1": -1, "0-99999": -1, "a": -1, "1,": 1} {
		list, err := parseList(text)
		if err != nil && want >= 0 || err == nil && len(list) != want {
			t.Errorf("%q: %v, %v", text, list, err)
		}
	}
}

func TestStandingHolds(t *testing.T) {
	f := newFixture(t, "cat", "/proc/self/sched", "/proc/self/personality", "/proc/self/numa_maps")
	f.spec.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 7}
	f.spec.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_IDLE}
	f.spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	f.spec.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: "MPOL_BIND", Nodes: "0"}
	out, code := f.run()
	fields := strings.Join(strings.Fields(out), " ")
	if code != 0 || !strings.Contains(fields, "policy : 3") && !strings.Contains(fields, "sched: no such file") || !strings.Contains(fields, "00000008") {
		t.Errorf("exit %d: %s", code, out)
	}
	if strings.Contains(fields, "default anon") || !strings.Contains(fields, "bind:0") && !strings.Contains(fields, "numa_maps: no such file") {
		t.Errorf("memory policy: %s", out)
	}
}
