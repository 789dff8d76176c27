// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"text/tabwriter"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func (e *env) network() *cobra.Command {
	return group("network", "Networks: ls, create, inspect, connect, disconnect, rm",
		e.networkLs(), e.networkCreate(), e.inspectOf("network"), e.networkConnect(), e.networkDisconnect(), e.networkRm())
}

func (e *env) networkLs() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List networks", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			list, err := c.NetworkList(cmd.Context(), client.NetworkListOptions{})
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(e.out, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "NETWORK ID\tNAME\tDRIVER\tSUBNET")
			for _, n := range list.Items {
				subnet := ""
				if len(n.IPAM.Config) > 0 {
					subnet = n.IPAM.Config[0].Subnet.String()
				}
				fmt.Fprintf(w, "%.12s\t%s\t%s\t%s\n", n.ID, n.Name, n.Driver, subnet)
			}
			return w.Flush()
		},
	}
}

func (e *env) networkCreate() *cobra.Command {
	var o client.NetworkCreateOptions
	var subnet, gateway string
	var labels []string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a network", Args: exactly("a name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			if o.Labels, err = keyValues("--label", labels); err != nil {
				return usageError{err}
			}
			if subnet != "" {
				cfg := network.IPAMConfig{}
				if cfg.Subnet, err = netip.ParsePrefix(subnet); err != nil {
					return usageError{fmt.Errorf("--subnet %q: want ADDRESS/BITS", subnet)}
				}
				if gateway != "" {
					if cfg.Gateway, err = netip.ParseAddr(gateway); err != nil {
						return usageError{fmt.Errorf("--gateway %q: want an address", gateway)}
					}
				}
				o.IPAM = &network.IPAM{Config: []network.IPAMConfig{cfg}}
			}
			got, err := c.NetworkCreate(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			fmt.Fprintln(e.out, got.ID)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.Driver, "driver", "d", "bridge", "driver")
	f.StringVar(&subnet, "subnet", "", "addresses, like 172.30.0.0/24")
	f.StringVar(&gateway, "gateway", "", "the host's address in it")
	f.BoolVar(&o.Internal, "internal", false, "nothing goes outside")
	f.StringArrayVar(&labels, "label", nil, "KEY=VALUE")
	return cmd
}

func (e *env) networkConnect() *cobra.Command {
	var ip string
	var aliases []string
	cmd := &cobra.Command{
		Use: "connect NETWORK CONTAINER", Short: "Put a container on a further network", Args: exactly("a network", "a container"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			ep := &network.EndpointSettings{Aliases: aliases}
			if ip != "" {
				a, err := netip.ParseAddr(ip)
				if err != nil {
					return usageError{fmt.Errorf("--ip %q: want an address", ip)}
				}
				ep.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: a}
			}
			_, err = c.NetworkConnect(cmd.Context(), args[0], client.NetworkConnectOptions{Container: args[1], EndpointConfig: ep})
			return err
		},
	}
	cmd.Flags().StringVar(&ip, "ip", "", "address on it")
	cmd.Flags().StringArrayVar(&aliases, "alias", nil, "further name on it")
	return cmd
}

func (e *env) networkDisconnect() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "disconnect NETWORK CONTAINER", Short: "Take a container off a network", Args: exactly("a network", "a container"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			_, err = c.NetworkDisconnect(cmd.Context(), args[0], client.NetworkDisconnectOptions{Container: args[1], Force: force})
			return err
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also when it is gone")
	return cmd
}

func (e *env) networkRm() *cobra.Command {
	return &cobra.Command{
		Use: "rm NETWORK…", Short: "Remove networks that no container is on", Args: atLeast(1, "network"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			var failed []error
			for _, name := range args {
				if _, err := c.NetworkRemove(cmd.Context(), name, client.NetworkRemoveOptions{}); err != nil {
					failed = append(failed, errors.New(e.explain(err)))
					continue
				}
				fmt.Fprintln(e.out, name)
			}
			return errors.Join(failed...)
		},
	}
}
