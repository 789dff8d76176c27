// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"maps"
	"slices"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func (e *env) port() *cobra.Command {
	return &cobra.Command{
		Use: "port CONTAINER [PORT[/udp]]", Short: "Show where a container's ports are published", Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var only network.Port
			if len(args) == 2 {
				p, err := network.ParsePort(args[1])
				if err != nil {
					return usageError{fmt.Errorf("%q is not a port", args[1])}
				}
				only = p
			}
			c, err := e.engine()
			if err != nil {
				return err
			}
			got, err := c.ContainerInspect(cmd.Context(), args[0], client.ContainerInspectOptions{})
			if err != nil {
				return err
			}
			ports := got.Container.NetworkSettings.Ports
			if len(args) == 2 {
				if len(ports[only]) == 0 {
					return fmt.Errorf("port %s of container %s is not published", only, args[0])
				}
				for _, b := range ports[only] {
					fmt.Fprintf(e.out, "%s:%s\n", b.HostIP, b.HostPort)
				}
				return nil
			}
			for _, p := range slices.SortedFunc(maps.Keys(ports), func(a, b network.Port) int { return int(a.Num()) - int(b.Num()) }) {
				for _, b := range ports[p] {
					fmt.Fprintf(e.out, "%s -> %s:%s\n", p, b.HostIP, b.HostPort)
				}
			}
			return nil
		},
	}
}
