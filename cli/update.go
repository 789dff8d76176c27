// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (e *env) update() *cobra.Command {
	f := containerFlags{}
	cmd := e.each("update [flags] CONTAINER…", "Change limits and the restart policy, at once when it runs", func(ctx context.Context, c *client.Client, ref string) error {
		var o client.ContainerCreateOptions
		var err error
		if o, err = f.options([]string{""}); err != nil {
			return usageError{err}
		}
		changes := client.ContainerUpdateOptions{Resources: &o.HostConfig.Resources}
		if f.restart != "" {
			changes.RestartPolicy = &o.HostConfig.RestartPolicy
		}
		_, err = c.ContainerUpdate(ctx, ref, changes)
		return err
	})
	fl := cmd.Flags()
	fl.StringVarP(&f.memory, "memory", "m", "", "memory limit, like 512m")
	fl.StringVar(&f.memorySwap, "memory-swap", "", "memory and swap; -1 is unlimited swap")
	fl.StringVar(&f.memoryReservation, "memory-reservation", "", "soft limit")
	fl.StringVar(&f.cpus, "cpus", "", "number of CPUs, like 1.5")
	fl.Int64Var(&f.cpuPeriod, "cpu-period", 0, "CFS period in microseconds")
	fl.Int64Var(&f.cpuQuota, "cpu-quota", 0, "CFS quota in microseconds")
	fl.Int64VarP(&f.cpuShares, "cpu-shares", "c", 0, "relative weight")
	fl.StringVar(&f.cpusetCpus, "cpuset-cpus", "", "CPUs, like 0-2")
	fl.StringVar(&f.cpusetMems, "cpuset-mems", "", "memory nodes")
	fl.Int64Var(&f.pidsLimit, "pids-limit", 0, "number of processes; -1 is unlimited")
	fl.StringVar(&f.restart, "restart", "", "no, on-failure[:MAX], always, unless-stopped")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		said := false
		fl.Visit(func(f *pflag.Flag) { said = said || cmd.InheritedFlags().Lookup(f.Name) == nil })
		if !said {
			return usageError{errors.New("update wants at least one flag that says what to change; see knarr update --help")}
		}
		f.pull = "missing"
		return run(cmd, args)
	}
	return cmd
}
