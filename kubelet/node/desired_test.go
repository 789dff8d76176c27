// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/kubelet/podruntime"
)

var (
	well  = Health{MemoryAvailable: 1 << 30, DiskTotal: 100 << 30, DiskAvailable: 50 << 30, Inodes: 100, InodesFree: 50, Tasks: 100, MaxTasks: 4000}
	facts = Facts{Hostname: "h", Kernel: "6.18", Arch: "amd64", CPUs: 4, Memory: 8 << 30, Disk: 100 << 30, HugePages: map[string]int64{"2Mi": 0}}
)

func TestConditions(t *testing.T) {
	for name, x := range map[string]struct {
		change func(*Health)
		bad    corev1.NodeConditionType
	}{
		"well":         {func(*Health) {}, ""},
		"memory":       {func(h *Health) { h.MemoryAvailable = 50 << 20 }, corev1.NodeMemoryPressure},
		"disk":         {func(h *Health) { h.DiskAvailable = 4 << 30 }, corev1.NodeDiskPressure},
		"a large disk": {func(h *Health) { h.DiskTotal, h.DiskAvailable = 10<<40, 100<<30 }, ""},
		"inodes":       {func(h *Health) { h.InodesFree = 1 }, corev1.NodeDiskPressure},
		"no inodes":    {func(h *Health) { h.Inodes, h.InodesFree = 0, 0 }, ""}, // btrfs
		"tasks":        {func(h *Health) { h.Tasks = 3900 }, corev1.NodePIDPressure},
		"runtime":      {func(h *Health) { h.Runtime = errors.New("gone") }, corev1.NodeReady},
	} {
		h := well
		x.change(&h)
		for _, c := range conditions(h) {
			want := corev1.ConditionFalse
			if (c.Type == corev1.NodeReady) != (c.Type == x.bad) {
				want = corev1.ConditionTrue
			}
			if c.Status != want || c.Reason == "" || c.Message == "" {
				t.Errorf("%s: %+v", name, c)
			}
		}
	}
}

func TestStatusKeepsWhatOthersWroteAndWhenThingsTurned(t *testing.T) {
	now := time.Unix(1000, 0)
	c := Config{Name: "n1", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, MaxPods: 110, Port: 10250}
	old := &corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse}}}
	st := Status(c, facts, well, []podruntime.Image{{Names: []string{"a"}, Size: 1}, {Names: []string{"b"}, Size: 2}, {Size: 9}}, old, now)
	if len(st.Conditions) != 5 || st.Conditions[0].Type != corev1.NodeNetworkUnavailable {
		t.Errorf("%+v", st.Conditions)
	}
	if len(st.Images) != 2 || st.Images[0].Names[0] != "b" {
		t.Errorf("%+v", st.Images)
	}
	if st.DaemonEndpoints.KubeletEndpoint.Port != 10250 || st.Addresses[0].Address != "10.0.0.1" || st.Capacity.Cpu().Value() != 4 ||
		st.Allocatable.Memory().Value() != 8<<30-100<<20 {
		t.Errorf("%+v", st)
	}
	later := Status(c, facts, well, nil, &st, now.Add(time.Minute))
	if sameStatus(st, later) {
		t.Error("the images are gone and nobody says so")
	}
	later.Images = st.Images
	if !sameStatus(st, later) {
		t.Error("only the heartbeat differs")
	}
	if !later.Conditions[1].LastTransitionTime.Equal(&st.Conditions[1].LastTransitionTime) {
		t.Error("a condition turned that did not")
	}
}

func TestObserveThisMachine(t *testing.T) {
	f, err := Observe(t.TempDir() + "/not/there/yet")
	if err != nil || f.CPUs < 1 || f.Memory < 1<<20 || f.Disk < 1<<20 || f.Kernel == "" || f.BootID == "" || f.Hostname == "" {
		t.Errorf("%+v, %v", f, err)
	}
	u, err := Measure("/")
	if err != nil || u.CPUNanos == 0 || u.MemoryAvailable == 0 || u.Tasks == 0 || u.MaxTasks == 0 {
		t.Errorf("%+v, %v", u, err)
	}
}
