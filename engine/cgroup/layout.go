// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/knarr/knarr/internal/errs"
)

// Mode names what is mounted.
type Mode string

// The modes. Hybrid: controllers on v1, and a v2 tree beside them.
const (
	V1     Mode = "v1"
	V2     Mode = "v2"
	Hybrid Mode = "hybrid"
)

// Layout says where the machine's hierarchies are mounted. It is read-only once made.
type Layout struct {
	Mode        Mode
	V1          map[string]string // v1 controller to the mount point of its hierarchy
	Unified     string            // mount point of the v2 tree; empty when there is none
	Controllers []string          // what the v2 tree controls
}

// v1Controllers are the hierarchies a container joins; named ones (systemd's) and perf_event are left alone.
var v1Controllers = [...]string{"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls", "net_prio", "rdma"}

// Detect reads the layout of the machine as this process sees it.
func Detect() (Layout, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Layout{}, fmt.Errorf("detect cgroups: %w", err)
	}
	l := parseMounts(string(table))
	if l.Unified != "" {
		list, err := os.ReadFile(path.Join(l.Unified, "cgroup.controllers"))
		if err != nil {
			return Layout{}, fmt.Errorf("detect cgroups: %w", err)
		}
		l.Controllers = strings.Fields(string(list))
	}
	if l.Mode == "" {
		return Layout{}, errs.New(errs.Unsupported, "detect cgroups: no cgroup file system is mounted; mount cgroup2 on /sys/fs/cgroup")
	}
	return l, nil
}

// parseMounts finds the cgroup mounts in the text of a mountinfo file (proc_pid_mountinfo(5)).
func parseMounts(table string) Layout {
	l := Layout{V1: map[string]string{}}
	for line := range strings.Lines(table) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		point := unescape.Replace(left[4])
		switch right[0] {
		case "cgroup2":
			if l.Unified == "" {
				l.Unified = point
			}
		case "cgroup":
			for _, opt := range strings.Split(right[2], ",") {
				if slices.Contains(v1Controllers[:], opt) && l.V1[opt] == "" {
					l.V1[opt] = point
				}
			}
		}
	}
	switch {
	case len(l.V1) > 0 && l.Unified != "":
		l.Mode = Hybrid
	case len(l.V1) > 0:
		l.Mode = V1
	case l.Unified != "":
		l.Mode = V2
	}
	return l
}

// unescape undoes the kernel's octal escapes in mount tables.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// v1Roots are the distinct v1 mount points, sorted.
func (l Layout) v1Roots() []string {
	var roots []string
	for _, root := range l.V1 {
		if !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	slices.Sort(roots)
	return roots
}

// has says whether the controller can limit: on v1, or else on v2.
func (l Layout) has(controller string) bool {
	return l.V1[controller] != "" || slices.Contains(l.Controllers, controller)
}
