// SPDX-License-Identifier: Apache-2.0

package container

import (
	"strings"
	"testing"
)

func TestFit(t *testing.T) {
	full := Abilities{CPUs: 2, CpusetCpus: "0-1", CpusetMems: "0", Memory: true, Swap: true, Reservation: true, Swappiness: true, OOMDisable: true,
		CFS: true, Shares: true, RealTime: true, Pids: true, BlkioWeight: true, BlkioWeightDevice: true, BlkioThrottle: true}
	none := Abilities{CPUs: 2}
	n := func(v int64) *int64 { return &v }
	for _, c := range []struct {
		name   string
		r      Resources
		a      Abilities
		update bool
		warn   string // part of the warnings; "" = none
		fault  string // part of the error; "" = none
	}{
		{"nothing", Resources{}, none, false, "", ""},
		{"memory", Resources{Memory: 64 << 20}, full, false, "", ""},
		{"too little memory", Resources{Memory: 1 << 20}, full, false, "", "Minimum memory limit allowed is 6MB"},
		{"swap below memory", Resources{Memory: 64 << 20, MemorySwap: 32 << 20}, full, false, "", "Minimum memoryswap limit should be larger than memory limit, see usage"},
		{"swap alone", Resources{MemorySwap: 32 << 20}, full, false, "", "You should always set the Memory limit when using Memoryswap limit, see usage"},
		{"swap alone in an update", Resources{MemorySwap: 32 << 20}, full, true, "", ""},
		{"reservation above the limit", Resources{Memory: 64 << 20, MemoryReservation: 65 << 20}, full, false, "", "Minimum memory limit can not be less than memory reservation limit, see usage"},
		{"little reservation", Resources{MemoryReservation: 1}, full, false, "", "Minimum memory reservation allowed is 6MB"},
		{"swappiness", Resources{MemorySwappiness: n(101)}, full, false, "", "Invalid value: 101, valid memory swappiness range is 0-100"},
		{"swappiness on v2", Resources{MemorySwappiness: n(10)}, none, false, "Memory swappiness discarded.", ""},
		{"no OOM killer and no limit", Resources{OOMKillDisable: true}, full, false, "OOM killer is disabled for the container, but no memory limit is set", ""},
		{"no OOM killer on v2", Resources{OOMKillDisable: true}, none, false, "OomKillDisable discarded.", ""},
		{"memory without controller", Resources{Memory: 64 << 20}, none, false, "Limitation discarded.", ""},
		{"swap without accounting", Resources{Memory: 64 << 20}, Abilities{Memory: true}, false, "Memory limited without swap.", ""},
		{"as many CPUs as there are", Resources{NanoCPUs: 2e9}, full, false, "", ""},
		{"more CPUs", Resources{NanoCPUs: 2e9 + 1}, full, false, "", "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"},
		{"negative CPUs", Resources{NanoCPUs: -1}, full, false, "", "range of CPUs"},
		{"CPUs and period", Resources{NanoCPUs: 1e9, CPUPeriod: 100000}, full, false, "", "Nano CPUs and CPU Period cannot both be set"},
		{"CPUs and quota", Resources{NanoCPUs: 1e9, CPUQuota: 100000}, full, false, "", "Nano CPUs and CPU Quota cannot both be set"},
		{"period", Resources{CPUPeriod: 999}, full, false, "", "CPU cfs period can not be less than 1ms"},
		{"quota", Resources{CPUQuota: 999}, full, false, "", "CPU cfs quota can not be less than 1ms"},
		{"shares without controller", Resources{CPUShares: 2}, none, false, "Shares discarded.", ""},
		{"real time", Resources{CPURealtimeRuntime: 1}, none, false, "", "real-time"},
		{"a CPU that is not there", Resources{CpusetCpus: "0-2"}, full, false, "", "Requested CPUs are not available - requested 0-2, available: 0-1"},
		{"no CPU list", Resources{CpusetCpus: "a"}, full, false, "", "Invalid value a for cpuset cpus"},
		{"a backward list", Resources{CpusetCpus: "1-0"}, full, false, "", "Invalid value 1-0 for cpuset cpus"},
		{"a huge list", Resources{CpusetCpus: "0-4294967295"}, full, false, "", "Invalid value"},
		{"a node that is not there", Resources{CpusetMems: "1"}, full, false, "", "Requested memory nodes are not available - requested 1, available: 0"},
		{"cpuset without controller", Resources{CpusetCpus: "0"}, none, false, "Cpuset discarded.", ""},
		{"pids without controller", Resources{PidsLimit: 5}, none, false, "PIDs limit discarded.", ""},
		{"weight", Resources{BlkioWeight: 9}, full, false, "", "Range of blkio weight is from 10 to 1000"},
		{"weight without file", Resources{BlkioWeight: 9}, none, false, "Weight discarded.", ""},
		{"device weight", Resources{BlkioWeightDevice: []DeviceRate{{"/dev/x", 1001}}}, full, false, "", "Range of blkio weight"},
		{"throttle without file", Resources{BlkioReadBps: []DeviceRate{{"/dev/x", 1}}}, none, false, "Block I/O BPS read limit discarded.", ""},
	} {
		got, warnings, err := fit(c.r, c.a, c.update)
		if text := strings.Join(warnings, "\n"); c.warn == "" != (text == "") || !strings.Contains(text, c.warn) {
			t.Errorf("%s: warnings %q, want %q", c.name, text, c.warn)
		}
		if c.fault == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.fault)
		}
		if c.warn != "" && strings.Contains(c.warn, "discarded") { // what is warned of is gone, and warned of once
			if _, again, _ := fit(got, c.a, c.update); len(again) > 0 {
				t.Errorf("%s: %q is still there", c.name, again)
			}
		}
	}
	if got, _, _ := fit(Resources{Memory: 64 << 20}, full, false); got.MemorySwap != 128<<20 {
		t.Errorf("swap %d, want twice the memory", got.MemorySwap)
	}
}

func TestSettleMemory(t *testing.T) {
	for _, c := range []struct {
		old, over Resources
		want      string
	}{
		{Resources{Memory: 64, MemorySwap: 128}, Resources{Memory: 100}, ""},
		{Resources{Memory: 64, MemorySwap: 128}, Resources{Memory: 129}, "update the memoryswap at the same time"},
		{Resources{Memory: 64, MemorySwap: 128}, Resources{Memory: 129, MemorySwap: 130}, ""},
		{Resources{Memory: 64, MemorySwap: 128}, Resources{MemorySwap: 63}, "should be larger than memory limit"},
		{Resources{Memory: 64, MemorySwap: -1}, Resources{Memory: 500}, ""},
		{Resources{}, Resources{MemorySwap: 63}, "always set the Memory limit"},
	} {
		err := settleMemory(c.old, c.over)
		if c.want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v then %+v: %v, want %q", c.old, c.over, err, c.want)
		}
	}
}

func TestParseDeviceRule(t *testing.T) {
	for _, good := range []string{"c 10:200 rwm", "a *:* r", "b 8:* rw"} {
		if r, err := parseDeviceRule(good); err != nil || !r.Allow {
			t.Errorf("%s: %+v, %v", good, r, err)
		}
	}
	for _, bad := range []string{"", "d 1:1 r", "c 1 r", "c 1:1", "c 1:1 x", "c 1:1 rwmr", "c 99999999999:1 r", "c 1:1 r\na *:* rwm", " c 1:1 r"} {
		if r, err := parseDeviceRule(bad); err == nil {
			t.Errorf("%q: %+v", bad, r)
		}
	}
}
