// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestParseMounts(t *testing.T) {
	v1 := "30 20 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n31 20 0:27 / /sys/fs/cgroup/memory rw shared:1 - cgroup cgroup rw,memory\n32 20 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
	v2 := "33 20 0:29 / /sys/fs/cg\\040roup rw - cgroup2 cgroup rw,nsdelegate\n"
	for name, c := range map[string]struct {
		table string
		want  Layout
	}{
		"v1":     {v1, Layout{Mode: V1, V1: map[string]string{"cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory"}}},
		"v2":     {v2, Layout{Mode: V2, V1: map[string]string{}, Unified: "/sys/fs/cg roup"}},
		"hybrid": {v1 + v2, Layout{Mode: Hybrid, Unified: "/sys/fs/cg roup", V1: map[string]string{"cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory"}}},
		"none":   {"1 0 8:1 / / rw - ext4 a rw\nnonsense\n", Layout{V1: map[string]string{}}},
	} {
		if got := parseMounts(c.table); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func p[T any](v T) *T { return &v }

func TestPlan(t *testing.T) {
	all := &specs.LinuxResources{
		CPU:     &specs.LinuxCPU{Shares: p(uint64(1024)), Quota: p(int64(20000)), Period: p(uint64(100000)), Cpus: "0"},
		Memory:  &specs.LinuxMemory{Limit: p(int64(100)), Swap: p(int64(150)), Reservation: p(int64(50))},
		Pids:    &specs.LinuxPids{Limit: p(int64(-1))},
		Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}, {Allow: true, Type: "c", Major: p(int64(1)), Minor: p(int64(3)), Access: "rw"}},
	}
	v1 := map[string]string{}
	for _, c := range []string{"cpu", "cpuset", "memory", "pids", "devices"} {
		v1[c] = "/" + c
	}
	for name, c := range map[string]struct {
		layout Layout
		want   string
	}{
		"v1": {Layout{Mode: V1, V1: v1}, "cpu.shares=1024 cpu.cfs_period_us=100000 cpu.cfs_quota_us=20000 cpuset.cpus=0 memory.limit_in_bytes=100 memory.memsw.limit_in_bytes=150 memory.soft_limit_in_bytes=50 pids.max=max devices.deny=a *:* rwm devices.allow=c 1:3 rw"},
		"v2": {Layout{Mode: V2, Unified: "/u", Controllers: []string{"cpu", "cpuset", "memory", "pids"}}, "cpu.weight=39 cpu.max=20000 100000 cpuset.cpus=0 memory.max=100 memory.swap.max=50 memory.low=50 pids.max=max"},
	} {
		writes, err := c.layout.Plan(all)
		must(t, err)
		var got []string
		for _, w := range writes {
			got = append(got, w.File+"="+w.Value)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s:\n%s, want\n%s", name, strings.Join(got, " "), c.want)
		}
	}
	_, err := Layout{Mode: V2, Unified: "/u"}.Plan(all)
	if !errors.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "no memory cgroup controller") {
		t.Errorf("limits without controllers: %v", err)
	}
}

// One resource each, what becomes of it on v1 and on v2; the empty string is a refusal.
func TestPlanOfEveryResource(t *testing.T) {
	v1 := Layout{Mode: V1, V1: map[string]string{}}
	for _, c := range v1Controllers {
		v1.V1[c] = "/" + c
	}
	v2 := Layout{Mode: V2, Unified: "/u", Controllers: []string{"cpu", "cpuset", "memory", "pids", "io", "hugetlb", "rdma"}}
	device := specs.LinuxThrottleDevice{Rate: 7}
	device.Major, device.Minor = 8, 1
	weight := specs.LinuxWeightDevice{Weight: p(uint16(10)), LeafWeight: p(uint16(20))}
	weight.Major = 8
	for _, c := range []struct {
		r      specs.LinuxResources
		v1, v2 string
	}{
		{specs.LinuxResources{CPU: &specs.LinuxCPU{Burst: p(uint64(9))}}, "cpu.cfs_burst_us=9", "cpu.max.burst=9"},
		{specs.LinuxResources{CPU: &specs.LinuxCPU{Idle: p(int64(1))}}, "cpu.idle=1", "cpu.idle=1"},
		{specs.LinuxResources{CPU: &specs.LinuxCPU{Mems: "0-1"}}, "cpuset.mems=0-1", "cpuset.mems=0-1"},
		{specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: p(int64(-1)), Period: p(uint64(5000))}}, "cpu.cfs_period_us=5000 cpu.cfs_quota_us=-1", "cpu.max=max 5000"},
		{specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimePeriod: p(uint64(5)), RealtimeRuntime: p(int64(4))}}, "cpu.rt_period_us=5 cpu.rt_runtime_us=4", ""},
		{specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(-1)), Swap: p(int64(-1))}}, "memory.limit_in_bytes=-1 memory.memsw.limit_in_bytes=-1", "memory.max=max memory.swap.max=max"},
		{specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(9)), Swap: p(int64(8))}}, "memory.limit_in_bytes=9 memory.memsw.limit_in_bytes=8", ""},
		//lint:ignore SA1019 what old bundles say must not fail
		{specs.LinuxResources{Memory: &specs.LinuxMemory{Kernel: p(int64(3)), KernelTCP: p(int64(4))}}, "memory.kmem.tcp.limit_in_bytes=4", "-"},
		{specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: p(uint64(3)), DisableOOMKiller: p(true)}}, "memory.swappiness=3 memory.oom_control=1", "-"},
		{specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 1}}},
			"hugetlb.2MB.limit_in_bytes=1 hugetlb.2MB.rsvd.limit_in_bytes=1", "hugetlb.2MB.max=1 hugetlb.2MB.rsvd.max=1"},
		{specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: p(uint16(500)), LeafWeight: p(uint16(100))}},
			"blkio.bfq.weight=500 blkio.weight=500 blkio.leaf_weight=100", "io.bfq.weight=500 io.weight=4950"},
		{specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{WeightDevice: []specs.LinuxWeightDevice{weight}}},
			"blkio.bfq.weight_device=8:0 10 blkio.weight_device=8:0 10 blkio.leaf_weight_device=8:0 20", "io.bfq.weight=8:0 10 io.weight=8:0 1"},
		{specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{device}, ThrottleWriteIOPSDevice: []specs.LinuxThrottleDevice{device}}},
			"blkio.throttle.read_bps_device=8:1 7 blkio.throttle.write_iops_device=8:1 7", "io.max=8:1 rbps=7 io.max=8:1 wiops=7"},
		{specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: p(uint32(0x10)), Priorities: []specs.LinuxInterfacePriority{{Name: "eth0", Priority: 3}}}},
			"net_cls.classid=16 net_prio.ifpriomap=eth0 3", ""},
		{specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"mlx5": {HcaHandles: p(uint32(2)), HcaObjects: p(uint32(3))}}},
			"rdma.max=mlx5 hca_handle=2 hca_object=3", "rdma.max=mlx5 hca_handle=2 hca_object=3"},
		{specs.LinuxResources{Unified: map[string]string{"memory.high": "5", "cpu.weight": "3"}}, "", "cpu.weight=3 memory.high=5"},
		{specs.LinuxResources{Unified: map[string]string{"memory.high/../x": "5"}}, "", ""},
		{specs.LinuxResources{Unified: map[string]string{"misc.max": "5"}}, "", ""},
	} {
		for _, one := range []struct {
			layout Layout
			want   string
		}{{v1, c.v1}, {v2, c.v2}} {
			writes, err := one.layout.Plan(&c.r)
			var got []string
			for _, w := range writes {
				got = append(got, w.File+"="+w.Value)
			}
			text := strings.Join(got, " ")
			if err == nil && text == "" {
				text = "-"
			} else if err != nil {
				text = ""
			}
			if text != one.want {
				t.Errorf("%s: %q (%v), want %q", one.layout.Mode, text, err, one.want)
			}
		}
	}
}

func TestOpenRefusesStrangePaths(t *testing.T) {
	for _, path := range []string{"", "/", "a", "/a/../b", "/a/", "/a\n"} {
		if _, err := (Layout{}).Open(path); !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestStatParsers(t *testing.T) {
	want := []IO{{Major: 8, ReadBytes: 10, WriteBytes: 20, ReadOps: 1, WriteOps: 2}}
	if got := parseIO("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0\n"); !reflect.DeepEqual(got, want) {
		t.Errorf("v2: %+v", got)
	}
	if got := parseBlkio("8:0 Read 10\n8:0 Write 20\nTotal 30\n", "8:0 Read 1\n8:0 Write 2\n"); !reflect.DeepEqual(got, want) {
		t.Errorf("v1: %+v", got)
	}
	if got := parseTable("a 1\nb 2\nbroken\n"); !maps.Equal(got, map[string]uint64{"a": 1, "b": 2}) {
		t.Errorf("table: %v", got)
	}
	if parse("max\n") != math.MaxUint64 {
		t.Error("max is no limit")
	}
}

// group makes a real one that goes with the test.
func group(t *testing.T) *Cgroup {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	l, err := Detect()
	must(t, err)
	top := fmt.Sprintf("/knarr-test-%x", rand.Uint64())
	g, err := l.Create(top + "/a/b")
	must(t, err)
	t.Cleanup(func() {
		root, err := l.Open(top)
		must(t, err)
		must(t, root.Kill())
		must(t, root.Delete())
		if root.Exists() {
			t.Error("it is still there")
		}
	})
	return g
}

func sleeper(t *testing.T, g *Cgroup) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	var joined error
	OnThread(func() { // what it starts is born in the group
		err := g.JoinThread()
		fd, fdErr := g.UnifiedFD()
		if fd >= 0 {
			defer unix.Close(fd)
			cmd.SysProcAttr = &unix.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
		}
		if err = errors.Join(err, fdErr); err == nil {
			err = cmd.Start()
		}
		joined = err
	})
	must(t, joined)
	return cmd
}

func TestBornInsideFrozenThawedAndKilled(t *testing.T) {
	g := group(t)
	cmd := sleeper(t, g)
	pids, err := g.Procs()
	must(t, err)
	if len(pids) != 1 || pids[0] != cmd.Process.Pid {
		t.Errorf("processes %v, want %d", pids, cmd.Process.Pid)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", cmd.Process.Pid))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(strings.TrimSpace(line), g.Path()) && !strings.Contains(line, "name=") {
			t.Errorf("not inside: %s", line)
		}
	}
	must(t, g.Freeze())
	if !g.Frozen() {
		t.Error("it is not frozen")
	}
	must(t, g.Thaw())
	if g.Frozen() {
		t.Error("it is still frozen")
	}
	must(t, g.Kill())
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("it ended with %v", err)
	}
}

// A v1 freezer would hold a killed process for ever.
func TestFrozenIsKilled(t *testing.T) {
	g := group(t)
	cmd := sleeper(t, g)
	must(t, g.Freeze())
	must(t, g.Kill())
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("it ended with %v", err)
	}
}

func TestLimitsAreInTheFiles(t *testing.T) {
	g := group(t)
	if !g.layout.has("memory") || !g.layout.has("pids") || !g.layout.has("cpu") {
		t.Skip("no controllers")
	}
	apply := func(mem, pids int64) {
		t.Helper()
		must(t, g.Apply(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &mem, Swap: &mem}, Pids: &specs.LinuxPids{Limit: &pids},
			CPU: &specs.LinuxCPU{Quota: p(int64(50000)), Period: p(uint64(100000)), Shares: p(uint64(512))}}))
		s, err := g.Stat()
		must(t, err)
		if s.Memory.Limit != uint64(mem) || s.Pids.Limit != uint64(pids) {
			t.Errorf("limits %d, %d; want %d, %d", s.Memory.Limit, s.Pids.Limit, mem, pids)
		}
	}
	apply(64<<20, 10)
	apply(128<<20, 20) // both up
	apply(32<<20, 5)   // and down
}

// The v2 device program is tried wherever there is a v2 tree, also when v1 guards devices.
func TestDeviceProgram(t *testing.T) {
	g := group(t)
	if g.layout.Unified == "" {
		t.Skip("no v2 tree")
	}
	try := func(rules ...specs.LinuxDeviceCgroup) (null, zero bool) {
		t.Helper()
		must(t, g.attachDevices(rules))
		opens := func(dev string) bool {
			cmd := exec.Command("dd", "if="+dev, "of=/dev/stdout", "count=1", "bs=1", "status=none")
			fd, err := g.UnifiedFD()
			must(t, err)
			defer unix.Close(fd)
			cmd.SysProcAttr = &unix.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
			r, w, err := os.Pipe()
			must(t, err)
			defer r.Close()
			defer w.Close()
			in, err := os.Open(os.DevNull)
			must(t, err)
			defer in.Close()
			cmd.Stdin, cmd.Stdout, cmd.Stderr = in, w, w
			return cmd.Run() == nil
		}
		return opens("/dev/null"), opens("/dev/zero")
	}
	deny := specs.LinuxDeviceCgroup{Access: "rwm"}
	null := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: p(int64(1)), Minor: p(int64(3)), Access: "r"}
	for _, c := range []struct {
		rules      []specs.LinuxDeviceCgroup
		null, zero bool
	}{
		{nil, true, true},
		{[]specs.LinuxDeviceCgroup{deny}, false, false},
		{[]specs.LinuxDeviceCgroup{deny, null}, true, false},
		{[]specs.LinuxDeviceCgroup{null, deny}, false, false},
		{[]specs.LinuxDeviceCgroup{{Type: "c", Major: p(int64(1)), Minor: p(int64(5)), Access: "w"}}, true, true},
		{[]specs.LinuxDeviceCgroup{{Type: "c", Major: p(int64(1)), Minor: p(int64(5)), Access: "r"}}, true, false},
	} {
		if null, zero := try(c.rules...); null != c.null || zero != c.zero {
			t.Errorf("%+v: null %v, zero %v; want %v, %v", c.rules, null, zero, c.null, c.zero)
		}
	}
}
