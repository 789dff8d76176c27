// SPDX-License-Identifier: Apache-2.0

// Package node reports the node: its object with what the machine has and how it is, and the Lease that says it lives.
//
// Facts are read from the machine, Desired is a pure function of them, the Reporter writes. The lease is renewed every
// 10 s, the status when it changes or after 5 min, as upstream. The object is made Ready at once: nothing is announced
// that a controller would have to take back first.
//
// It never deletes the node, and leaves alone what others wrote: foreign labels, taints, conditions.
//
// Goroutines: Reporter.Run, one loop. No files.
package node

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Facts are what the machine is; they do not change while it runs.
type Facts struct {
	Hostname, MachineID, SystemUUID, BootID string
	Kernel, OSImage, Arch                   string
	CPUs                                    int
	Memory, Disk                            int64            // bytes
	HugePages                               map[string]int64 // bytes by size: "2Mi", "1Gi"
}

// Observe reads them. dataDir is on the disk that pods fill.
func Observe(dataDir string) (Facts, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return Facts{}, fmt.Errorf("uname: %w", err)
	}
	disk, err := statfs(dataDir)
	if err != nil {
		return Facts{}, err
	}
	mem, err := meminfo()
	if err != nil {
		return Facts{}, err
	}
	return Facts{
		Hostname: unix.ByteSliceToString(uts.Nodename[:]), Kernel: unix.ByteSliceToString(uts.Release[:]),
		MachineID: firstLine("/etc/machine-id", "/var/lib/dbus/machine-id"), BootID: firstLine("/proc/sys/kernel/random/boot_id"),
		SystemUUID: firstLine("/sys/class/dmi/id/product_uuid", "/etc/machine-id"), OSImage: osImage(),
		Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Memory: mem["MemTotal"], Disk: int64(disk.Blocks) * disk.Bsize, HugePages: hugePages(),
	}, nil
}

// firstLine is that of the first of the files that has one; missing everywhere is not known, which is "".
func firstLine(paths ...string) string {
	for _, p := range paths {
		if b, err := os.ReadFile(p); err == nil && len(bytes.TrimSpace(b)) > 0 {
			line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
			return line
		}
	}
	return ""
}

func osImage() string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "Linux"
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return "Linux"
}

// statfs is of the nearest folder that exists.
func statfs(dir string) (st unix.Statfs_t, err error) {
	for {
		err = unix.Statfs(dir, &st)
		if err == nil || dir == "/" {
			break
		}
		dir = filepath.Dir(dir)
	}
	if err != nil {
		return st, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return st, nil
}

// meminfo is /proc/meminfo in bytes.
func meminfo() (map[string]int64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	sc := bufio.NewScanner(bytes.NewReader(b))
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 2 {
			continue
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			continue
		}
		if len(f) == 3 {
			n *= 1024
		}
		out[strings.TrimSuffix(f[0], ":")] = n
	}
	return out, sc.Err()
}

func hugePages() map[string]int64 {
	out := map[string]int64{}
	dirs, err := filepath.Glob("/sys/kernel/mm/hugepages/hugepages-*kB")
	if err != nil {
		return out
	}
	for _, dir := range dirs {
		size, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(dir), "hugepages-"), "kB"), 10, 64)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(firstLine(filepath.Join(dir, "nr_hugepages")), 10, 64)
		if err != nil {
			continue
		}
		name := strconv.FormatInt(size, 10) + "Ki"
		switch {
		case size%(1<<20) == 0:
			name = strconv.FormatInt(size>>20, 10) + "Gi"
		case size%(1<<10) == 0:
			name = strconv.FormatInt(size>>10, 10) + "Mi"
		}
		out[name] = n * size * 1024
	}
	return out
}

// Health is how the machine is just now.
type Health struct {
	MemoryAvailable, DiskAvailable, DiskTotal int64 // bytes
	InodesFree, Inodes                        uint64
	Tasks, MaxTasks                           int64
	Runtime                                   error // why the container runtime does not answer
	Network                                   error // why pods can have no addresses
}

func health(dataDir string) (Health, error) {
	disk, err := statfs(dataDir)
	if err != nil {
		return Health{}, err
	}
	mem, err := meminfo()
	if err != nil {
		return Health{}, err
	}
	h := Health{
		MemoryAvailable: mem["MemAvailable"], DiskAvailable: int64(disk.Bavail) * disk.Bsize, DiskTotal: int64(disk.Blocks) * disk.Bsize,
		InodesFree: disk.Ffree, Inodes: disk.Files,
	}
	// "0.10 0.20 0.30 2/345 678": the fourth is running/existing tasks.
	if f := strings.Fields(firstLine("/proc/loadavg")); len(f) > 3 {
		_, all, _ := strings.Cut(f[3], "/")
		h.Tasks, _ = strconv.ParseInt(all, 10, 64)
	}
	h.MaxTasks, _ = strconv.ParseInt(firstLine("/proc/sys/kernel/pid_max"), 10, 64)
	return h, nil
}
