// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"

	"github.com/knarr/knarr/internal/errs"
)

// UpdateOptions: what is nil stays.
type UpdateOptions struct {
	Resources *Resources // zero fields stay
	Restart   *RestartPolicy
}

// Update changes limits, at once when it runs, and the restart policy. The warnings say which limits this machine cannot hold.
func (e *Engine) Update(ctx context.Context, ref string, o UpdateOptions) (warnings []string, err error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	c.op.Lock()
	defer c.op.Unlock()
	rec := c.record()
	old := rec.Spec.Resources
	if o.Restart != nil {
		if rec.Spec.AutoRemove && o.Restart.Name != "" && o.Restart.Name != "no" {
			return nil, errs.New(errs.Conflict, "Cannot update container %s: Restart policy cannot be updated because AutoRemove is enabled for the container", c.id)
		}
		rec.Spec.Restart = *o.Restart
	}
	if o.Resources != nil {
		var over Resources
		if over, warnings, err = fit(*o.Resources, e.abilities, true); err != nil {
			return nil, err
		}
		if err := settleMemory(old, over); err != nil {
			return nil, errs.New(errs.Conflict, "Cannot update container %s: %w", c.id, err)
		}
		rec.Spec.Resources = overlay(old, over)
	}
	if err := validate(rec.Spec); err != nil {
		return nil, err
	}
	if st := c.status(); o.Resources != nil && st.running() {
		if err := e.applyLimits(c, rec.Spec.Resources, old); err != nil {
			return nil, err
		}
	}
	if err := c.saveRecord(rec); err != nil {
		return nil, err
	}
	e.emit(c, "update", nil)
	return warnings, nil
}

// settleMemory: memory is a part of memory and swap together, whichever of them changes.
func settleMemory(old, over Resources) error {
	memory, swap := old.Memory, old.MemorySwap
	set(&memory, over.Memory)
	set(&swap, over.MemorySwap)
	switch {
	case swap > 0 && memory == 0:
		return errs.New(errs.Invalid, "You should always set the Memory limit when using Memoryswap limit, see usage")
	case swap > 0 && memory > swap && over.MemorySwap == 0:
		return errs.New(errs.Invalid, "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	case swap > 0 && memory > swap:
		return errs.New(errs.Invalid, "Minimum memoryswap limit should be larger than memory limit, see usage")
	}
	return nil
}

// applyLimits writes the new limits to a running container's group. When the kernel refuses one, those before it are undone.
func (e *Engine) applyLimits(c *entry, now, old Resources) error {
	g, err := e.layout.Open(c.status().Cgroup)
	if err != nil {
		return err
	}
	apply := func(r Resources) error {
		limits := linuxResources(r, e.abilities.Swap)
		if limits.BlockIO, err = blockIO(r); err != nil {
			return err
		}
		return g.Apply(limits)
	}
	if err := apply(now); err != nil {
		if back := apply(old); back != nil {
			e.log.Warn("take back limits", "container", c.id, "err", back)
		}
		return errs.New(errs.Conflict, "Cannot update container %s: %w", c.id, err)
	}
	return nil
}

// overlay answers r with what is set in over.
func overlay(r, over Resources) Resources {
	set(&r.CPUShares, over.CPUShares)
	set(&r.CpusetCpus, over.CpusetCpus)
	set(&r.CpusetMems, over.CpusetMems)
	set(&r.CPURealtimePeriod, over.CPURealtimePeriod)
	set(&r.CPURealtimeRuntime, over.CPURealtimeRuntime)
	set(&r.Memory, over.Memory)
	set(&r.MemorySwap, over.MemorySwap)
	set(&r.MemoryReservation, over.MemoryReservation)
	set(&r.PidsLimit, over.PidsLimit)
	set(&r.BlkioWeight, over.BlkioWeight)
	if over.MemorySwappiness != nil {
		r.MemorySwappiness = over.MemorySwappiness
	}
	if len(over.Hugepages) > 0 {
		r.Hugepages = over.Hugepages
	}
	if len(over.Unified) > 0 {
		r.Unified = over.Unified
	}
	if over.OOMKillDisable {
		r.OOMKillDisable = true
	}
	for _, l := range []struct {
		to   *[]DeviceRate
		with []DeviceRate
	}{
		{&r.BlkioWeightDevice, over.BlkioWeightDevice}, {&r.BlkioReadBps, over.BlkioReadBps}, {&r.BlkioWriteBps, over.BlkioWriteBps},
		{&r.BlkioReadIOps, over.BlkioReadIOps}, {&r.BlkioWriteIOps, over.BlkioWriteIOps},
	} {
		if len(l.with) > 0 {
			*l.to = l.with
		}
	}
	if over.NanoCPUs > 0 { // two ways to say one thing: the newer wins
		r.NanoCPUs, r.CPUPeriod, r.CPUQuota = over.NanoCPUs, 0, 0
	}
	if over.CPUPeriod > 0 || over.CPUQuota != 0 {
		r.NanoCPUs = 0
		set(&r.CPUPeriod, over.CPUPeriod)
		set(&r.CPUQuota, over.CPUQuota)
	}
	return r
}

func set[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}
