// SPDX-License-Identifier: Apache-2.0

package node

import (
	"strconv"
	"strings"
	"time"
)

// Usage is what the machine uses.
type Usage struct {
	Health
	Time        time.Time
	CPUNanos    uint64 // since boot, all cores
	MemoryTotal int64
}

// Measure reads it.
func Measure(dataDir string) (Usage, error) {
	h, err := health(dataDir)
	if err != nil {
		return Usage{}, err
	}
	mem, err := meminfo()
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Health: h, Time: time.Now(), MemoryTotal: mem["MemTotal"]}
	// "cpu user nice system idle iowait irq softirq steal …" in hundredths of a second; guests are in user already.
	for i, f := range strings.Fields(firstLine("/proc/stat")) {
		if n, err := strconv.ParseUint(f, 10, 64); err == nil && i <= 8 && i != 4 && i != 5 {
			u.CPUNanos += n * uint64(time.Second/100)
		}
	}
	return u, nil
}
