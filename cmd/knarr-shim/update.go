// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/knarr/knarr/internal/errs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// updateFlags are runc's. The kernel's own memory can no longer be limited apart; that flag is taken and does nothing.
func updateFlags() flags {
	return flags{"resources": true, "r": true, "memory": true, "memory-reservation": true, "memory-swap": true, "kernel-memory": true,
		"kernel-memory-tcp": true, "cpu-period": true, "cpu-quota": true, "cpu-burst": true, "cpu-share": true, "cpu-rt-period": true, "cpu-rt-runtime": true,
		"cpuset-cpus": true, "cpuset-mems": true, "cpu-idle": true, "pids-limit": true, "blkio-weight": true}
}

func (c *call) update() error {
	r := new(specs.LinuxResources)
	if file := c.opts.get("resources", "r"); file != "" {
		data, err := readFileOrStdin(file)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, r); err != nil {
			return errs.New(errs.Invalid, "decode resources: %w", err)
		}
	} else if err := c.amendResources(r); err != nil {
		return err
	}
	return c.runtime.Update(c.args[0], r)
}

func readFileOrStdin(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
	}
	return os.ReadFile(file)
}

// amendResources puts the options into r; those not given stay nil, which changes nothing.
func (c *call) amendResources(r *specs.LinuxResources) error {
	r.CPU, r.Memory, r.Pids, r.BlockIO = new(specs.LinuxCPU), new(specs.LinuxMemory), new(specs.LinuxPids), new(specs.LinuxBlockIO)
	r.CPU.Cpus, r.CPU.Mems = c.opts.get("cpuset-cpus"), c.opts.get("cpuset-mems")
	for _, o := range []struct {
		name string
		to   **int64
		size bool
	}{{"memory", &r.Memory.Limit, true}, {"memory-reservation", &r.Memory.Reservation, true}, {"memory-swap", &r.Memory.Swap, true},
		{"cpu-quota", &r.CPU.Quota, false}, {"cpu-rt-runtime", &r.CPU.RealtimeRuntime, false}, {"cpu-idle", &r.CPU.Idle, false}, {"pids-limit", &r.Pids.Limit, false}} {
		if text := c.opts.get(o.name); text != "" {
			n, err := parseAmount(text, o.size)
			if err != nil {
				return errs.New(errs.Invalid, "--%s: %w", o.name, err)
			}
			*o.to = &n
		}
	}
	for _, o := range []struct {
		name string
		to   **uint64
	}{{"cpu-period", &r.CPU.Period}, {"cpu-share", &r.CPU.Shares}, {"cpu-burst", &r.CPU.Burst}, {"cpu-rt-period", &r.CPU.RealtimePeriod}} {
		if text := c.opts.get(o.name); text != "" {
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				return errs.New(errs.Invalid, "--%s: %w", o.name, err)
			}
			*o.to = &n
		}
	}
	if text := c.opts.get("blkio-weight"); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return errs.New(errs.Invalid, "--blkio-weight: %w", err)
		}
		w := uint16(n)
		r.BlockIO.Weight = &w
	}
	return nil
}

// parseAmount reads a number; a size may have a unit of 1024s: 64M, 1g, 512kb.
func parseAmount(text string, size bool) (int64, error) {
	unit := int64(1)
	if size {
		t := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(text), "b"), "i")
		if i := strings.IndexAny(t, "kmgtp"); i >= 0 && i == len(t)-1 {
			unit = 1 << (10 * (1 + strings.IndexByte("kmgtp", t[i])))
			t = t[:i]
		}
		text = t
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil && (n > math.MaxInt64/unit || n < -1) {
		err = strconv.ErrRange
	}
	return n * unit, err
}
