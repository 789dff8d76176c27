// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/client"
	"github.com/spf13/pflag"
)

// limitFlags are the limits that run, create and update share.
type limitFlags struct {
	memory, memorySwap, memoryReservation, cpus, cpusetCpus, cpusetMems              string
	cpuPeriod, cpuQuota, cpuShares, cpuRTPeriod, cpuRTRuntime, pidsLimit, swappiness int64
	blkioWeight                                                                      uint16
	blkioWeightDevice, readBps, writeBps, readIOps, writeIOps                        []string
	noOOMKill                                                                        bool
}

func (c *limitFlags) add(f *pflag.FlagSet) {
	f.StringVarP(&c.memory, "memory", "m", "", "memory limit, like 512m")
	f.StringVar(&c.memorySwap, "memory-swap", "", "memory and swap; -1 is unlimited swap")
	f.StringVar(&c.memoryReservation, "memory-reservation", "", "soft limit")
	f.Int64Var(&c.swappiness, "memory-swappiness", -1, "0 to 100: how readily it is swapped out (cgroup v1)")
	f.BoolVar(&c.noOOMKill, "oom-kill-disable", false, "let it wait, not die, when memory is used up (cgroup v1)")
	f.StringVar(&c.cpus, "cpus", "", "number of CPUs, like 1.5")
	f.Int64Var(&c.cpuPeriod, "cpu-period", 0, "CFS period in microseconds")
	f.Int64Var(&c.cpuQuota, "cpu-quota", 0, "CFS quota in microseconds")
	f.Int64VarP(&c.cpuShares, "cpu-shares", "c", 0, "relative weight")
	f.Int64Var(&c.cpuRTPeriod, "cpu-rt-period", 0, "real-time period in microseconds (cgroup v1)")
	f.Int64Var(&c.cpuRTRuntime, "cpu-rt-runtime", 0, "real-time runtime in microseconds (cgroup v1)")
	f.StringVar(&c.cpusetCpus, "cpuset-cpus", "", "CPUs, like 0-2")
	f.StringVar(&c.cpusetMems, "cpuset-mems", "", "memory nodes")
	f.Int64Var(&c.pidsLimit, "pids-limit", 0, "number of processes; -1 is unlimited")
	f.Uint16Var(&c.blkioWeight, "blkio-weight", 0, "relative weight of disk use, 10 to 1000")
	f.StringArrayVar(&c.blkioWeightDevice, "blkio-weight-device", nil, "DEVICE:WEIGHT")
	f.StringArrayVar(&c.readBps, "device-read-bps", nil, "DEVICE:BYTES a second that may be read, like /dev/sda:1mb")
	f.StringArrayVar(&c.writeBps, "device-write-bps", nil, "DEVICE:BYTES a second that may be written")
	f.StringArrayVar(&c.readIOps, "device-read-iops", nil, "DEVICE:OPERATIONS a second")
	f.StringArrayVar(&c.writeIOps, "device-write-iops", nil, "DEVICE:OPERATIONS a second")
}

func size(flag, text string) (int64, error) {
	v, err := units.RAMInBytes(text)
	if err != nil {
		return 0, fmt.Errorf("%s %q: want a size like 512m", flag, text)
	}
	return v, nil
}

func (c *limitFlags) setLimits(o *client.ContainerCreateOptions) error {
	r := &o.HostConfig.Resources
	r.CPUPeriod, r.CPUQuota, r.CPUShares = c.cpuPeriod, c.cpuQuota, c.cpuShares
	r.CPURealtimePeriod, r.CPURealtimeRuntime = c.cpuRTPeriod, c.cpuRTRuntime
	r.CpusetCpus, r.CpusetMems, r.BlkioWeight = c.cpusetCpus, c.cpusetMems, c.blkioWeight
	if c.pidsLimit != 0 {
		r.PidsLimit = &c.pidsLimit
	}
	if c.swappiness >= 0 {
		r.MemorySwappiness = &c.swappiness
	}
	if c.noOOMKill {
		r.OomKillDisable = &c.noOOMKill
	}
	for _, s := range []struct {
		flag, text string
		to         *int64
	}{{"--memory", c.memory, &r.Memory}, {"--memory-swap", c.memorySwap, &r.MemorySwap}, {"--memory-reservation", c.memoryReservation, &r.MemoryReservation}} {
		var err error
		switch {
		case s.text == "":
		case s.text == "-1" && s.to == &r.MemorySwap:
			*s.to = -1
		default:
			if *s.to, err = size(s.flag, s.text); err != nil {
				return err
			}
		}
	}
	if c.cpus != "" {
		v, ok := new(big.Rat).SetString(c.cpus)
		if !ok || v.Sign() <= 0 {
			return fmt.Errorf("--cpus %q: want a number like 1.5", c.cpus)
		}
		nano := v.Mul(v, big.NewRat(1e9, 1))
		if !nano.IsInt() || !nano.Num().IsInt64() {
			return fmt.Errorf("--cpus %q: want at most nine digits after the point", c.cpus)
		}
		r.NanoCPUs = nano.Num().Int64()
	}
	return c.setDiskLimits(o)
}

func (c *limitFlags) setDiskLimits(o *client.ContainerCreateOptions) error {
	r := &o.HostConfig.Resources
	for _, text := range c.blkioWeightDevice {
		path, weight, ok := strings.Cut(text, ":")
		n, err := strconv.ParseUint(weight, 10, 16)
		if !ok || err != nil {
			return fmt.Errorf("--blkio-weight-device %q: want DEVICE:WEIGHT", text)
		}
		r.BlkioWeightDevice = append(r.BlkioWeightDevice, &blkiodev.WeightDevice{Path: path, Weight: uint16(n)})
	}
	operations := func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }
	for _, l := range []struct {
		flag string
		list []string
		read func(string) (int64, error)
		to   *[]*blkiodev.ThrottleDevice
	}{
		{"--device-read-bps", c.readBps, units.RAMInBytes, &r.BlkioDeviceReadBps}, {"--device-write-bps", c.writeBps, units.RAMInBytes, &r.BlkioDeviceWriteBps},
		{"--device-read-iops", c.readIOps, operations, &r.BlkioDeviceReadIOps}, {"--device-write-iops", c.writeIOps, operations, &r.BlkioDeviceWriteIOps},
	} {
		for _, text := range l.list {
			path, rate, ok := strings.Cut(text, ":")
			n, err := l.read(rate)
			if !ok || err != nil || n < 0 || !strings.HasPrefix(path, "/dev/") {
				return fmt.Errorf("%s %q: want DEVICE:NUMBER, with a device below /dev", l.flag, text)
			}
			*l.to = append(*l.to, &blkiodev.ThrottleDevice{Path: path, Rate: uint64(n)})
		}
	}
	return nil
}
