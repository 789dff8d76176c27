// SPDX-License-Identifier: Apache-2.0

package dockerapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	dcontainer "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/internal/errs"
)

// resourcesOf translates the limits of a create or update request.
func resourcesOf(r dcontainer.Resources) (container.Resources, error) {
	out := container.Resources{
		CPUShares: uint64(max(0, r.CPUShares)), CPUPeriod: uint64(max(0, r.CPUPeriod)), CPUQuota: r.CPUQuota, NanoCPUs: r.NanoCPUs,
		CPURealtimePeriod: r.CPURealtimePeriod, CPURealtimeRuntime: r.CPURealtimeRuntime,
		CpusetCpus: r.CpusetCpus, CpusetMems: r.CpusetMems,
		Memory: r.Memory, MemorySwap: r.MemorySwap, MemoryReservation: r.MemoryReservation, MemorySwappiness: r.MemorySwappiness,
		BlkioWeight:    r.BlkioWeight,
		OOMKillDisable: r.OomKillDisable != nil && *r.OomKillDisable, DeviceRules: r.DeviceCgroupRules,
	}
	if r.PidsLimit != nil {
		out.PidsLimit = max(0, *r.PidsLimit)
	}
	if slices.Contains(r.BlkioWeightDevice, nil) || slices.Contains(r.Ulimits, nil) {
		return out, fmt.Errorf("a weight device or ulimit is null")
	}
	for _, w := range r.BlkioWeightDevice {
		out.BlkioWeightDevice = append(out.BlkioWeightDevice, container.DeviceRate{Path: w.Path, Rate: uint64(w.Weight)})
	}
	out.BlkioReadBps, out.BlkioWriteBps = ratesOf(r.BlkioDeviceReadBps), ratesOf(r.BlkioDeviceWriteBps)
	out.BlkioReadIOps, out.BlkioWriteIOps = ratesOf(r.BlkioDeviceReadIOps), ratesOf(r.BlkioDeviceWriteIOps)
	for _, u := range r.Ulimits {
		out.Ulimits = append(out.Ulimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	for _, d := range r.Devices {
		out.Devices = append(out.Devices, container.Device{HostPath: d.PathOnHost, ContainerPath: d.PathInContainer, Permissions: d.CgroupPermissions})
	}
	for _, d := range r.DeviceRequests {
		return out, fmt.Errorf("could not select device driver %q with capabilities: %v: GPUs and other requested devices are not supported, pass nodes with --device", d.Driver, d.Capabilities)
	}
	if r.IOMaximumBandwidth != 0 || r.IOMaximumIOps != 0 {
		return out, errs.New(errs.Invalid, "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps")
	}
	if r.CPUCount != 0 || r.CPUPercent != 0 {
		return out, fmt.Errorf("CPU count and CPU percent are not supported on linux: use NanoCpus")
	}
	return out, nil
}

func ratesOf(list []*blkiodev.ThrottleDevice) (out []container.DeviceRate) {
	for _, t := range list {
		if t == nil {
			continue
		}
		out = append(out, container.DeviceRate{Path: t.Path, Rate: t.Rate})
	}
	return out
}

// resourcesView is resourcesOf the other way.
func resourcesView(sp container.Spec) dcontainer.Resources {
	rs := sp.Resources
	out := dcontainer.Resources{
		CPUShares: int64(rs.CPUShares), CPUPeriod: int64(rs.CPUPeriod), CPUQuota: rs.CPUQuota, NanoCPUs: rs.NanoCPUs,
		CPURealtimePeriod: rs.CPURealtimePeriod, CPURealtimeRuntime: rs.CPURealtimeRuntime,
		CpusetCpus: rs.CpusetCpus, CpusetMems: rs.CpusetMems, Memory: rs.Memory, MemorySwap: rs.MemorySwap,
		MemoryReservation: rs.MemoryReservation, MemorySwappiness: rs.MemorySwappiness, BlkioWeight: rs.BlkioWeight,
		CgroupParent: sp.CgroupParent, DeviceCgroupRules: rs.DeviceRules,
		BlkioDeviceReadBps: ratesView(rs.BlkioReadBps), BlkioDeviceWriteBps: ratesView(rs.BlkioWriteBps),
		BlkioDeviceReadIOps: ratesView(rs.BlkioReadIOps), BlkioDeviceWriteIOps: ratesView(rs.BlkioWriteIOps),
	}
	for _, w := range rs.BlkioWeightDevice {
		out.BlkioWeightDevice = append(out.BlkioWeightDevice, &blkiodev.WeightDevice{Path: w.Path, Weight: uint16(w.Rate)})
	}
	if rs.PidsLimit > 0 {
		out.PidsLimit = &rs.PidsLimit
	}
	for _, u := range rs.Ulimits {
		out.Ulimits = append(out.Ulimits, &units.Ulimit{Name: strings.ToLower(strings.TrimPrefix(u.Type, "RLIMIT_")), Soft: int64(u.Soft), Hard: int64(u.Hard)})
	}
	for _, d := range rs.Devices {
		out.Devices = append(out.Devices, dcontainer.DeviceMapping{PathOnHost: d.HostPath, PathInContainer: d.ContainerPath, CgroupPermissions: d.Permissions})
	}
	if rs.OOMKillDisable {
		out.OomKillDisable = &rs.OOMKillDisable
	}
	return out
}

func ratesView(list []container.DeviceRate) (out []*blkiodev.ThrottleDevice) {
	for _, t := range list {
		out = append(out, &blkiodev.ThrottleDevice{Path: t.Path, Rate: t.Rate})
	}
	return out
}
