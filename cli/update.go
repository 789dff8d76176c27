// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

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
		res, err := c.ContainerUpdate(ctx, ref, changes)
		for _, w := range res.Warnings {
			fmt.Fprintln(e.err, "warning:", w)
		}
		return err
	})
	fl := cmd.Flags()
	f.limitFlags.add(fl)
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
