// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"text/tabwriter"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func (e *env) network() *cobra.Command {
	return group("network", "Networks: ls, create, inspect, connect, disconnect, rm, prune",
		e.networkLs(), e.networkCreate(), e.inspectOf("network"), e.networkConnect(), e.networkDisconnect(), e.networkRm(), e.networkPrune())
}

func (e *env) networkLs() *cobra.Command {
	var quiet, full bool
	var filter []string
	cmd := &cobra.Command{
		Use: "ls", Short: "List networks", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			f, err := parseFilters(filter)
			if err != nil {
				return err
			}
			list, err := c.NetworkList(cmd.Context(), client.NetworkListOptions{Filters: f})
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(e.out, 0, 0, 3, ' ', 0)
			if !quiet {
				fmt.Fprintln(w, "NETWORK ID\tNAME\tDRIVER\tSUBNET")
			}
			for _, n := range list.Items {
				id := n.ID
				if !full {
					id = id[:min(12, len(id))]
				}
				if quiet {
					fmt.Fprintln(w, id)
					continue
				}
				var subnets []string
				for _, cfg := range n.IPAM.Config {
					subnets = append(subnets, cfg.Subnet.String())
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", id, n.Name, n.Driver, strings.Join(subnets, " "))
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "only ids")
	cmd.Flags().BoolVar(&full, "no-trunc", false, "whole ids")
	cmd.Flags().StringArrayVarP(&filter, "filter", "f", nil, "NAME=VALUE: name, id, label, driver, scope, type, dangling")
	return cmd
}

// addressFlags are those of network create that belong to subnets.
type addressFlags struct{ subnets, gateways, ranges, aux []string }

// ipam gives each subnet the gateway, range and reserved addresses that lie in it.
func (a addressFlags) ipam() (*network.IPAM, error) {
	if len(a.subnets)+len(a.gateways)+len(a.ranges)+len(a.aux) == 0 {
		return nil, nil
	}
	out := &network.IPAM{}
	for _, s := range a.subnets {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("--subnet %q: want ADDRESS/BITS", s)
		}
		out.Config = append(out.Config, network.IPAMConfig{Subnet: p})
	}
	within := func(flag, text string, addr netip.Addr, err error, put func(*network.IPAMConfig)) error {
		if err != nil {
			return fmt.Errorf("%s %q: %w", flag, text, err)
		}
		for i := range out.Config {
			if out.Config[i].Subnet.Contains(addr) {
				put(&out.Config[i])
				return nil
			}
		}
		return fmt.Errorf("%s %q: it is in none of the subnets", flag, text)
	}
	for _, g := range a.gateways {
		addr, err := netip.ParseAddr(g)
		if err := within("--gateway", g, addr, err, func(c *network.IPAMConfig) { c.Gateway = addr }); err != nil {
			return nil, err
		}
	}
	for _, r := range a.ranges {
		p, err := netip.ParsePrefix(r)
		if err := within("--ip-range", r, p.Addr(), err, func(c *network.IPAMConfig) { c.IPRange = p }); err != nil {
			return nil, err
		}
	}
	for _, x := range a.aux {
		name, text, _ := strings.Cut(x, "=")
		addr, err := netip.ParseAddr(text)
		err = within("--aux-address", x, addr, err, func(c *network.IPAMConfig) {
			if c.AuxAddress == nil {
				c.AuxAddress = map[string]netip.Addr{}
			}
			c.AuxAddress[name] = addr
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (e *env) networkCreate() *cobra.Command {
	var o client.NetworkCreateOptions
	var addresses addressFlags
	var labels, opts []string
	var ipv6 bool
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
			if o.Options, err = keyValues("--opt", opts); err != nil {
				return usageError{err}
			}
			if o.IPAM, err = addresses.ipam(); err != nil {
				return usageError{err}
			}
			if cmd.Flags().Changed("ipv6") {
				o.EnableIPv6 = &ipv6
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
	f.StringArrayVar(&addresses.subnets, "subnet", nil, "addresses, like 172.30.0.0/24; with --ipv6 one of each family")
	f.StringArrayVar(&addresses.gateways, "gateway", nil, "the host's address in a subnet")
	f.StringArrayVar(&addresses.ranges, "ip-range", nil, "where in a subnet addresses are given from")
	f.StringArrayVar(&addresses.aux, "aux-address", nil, "NAME=ADDRESS: an address that is somebody else's")
	f.BoolVar(&ipv6, "ipv6", false, "IPv6 addresses besides")
	f.BoolVar(&o.Internal, "internal", false, "nothing goes outside")
	f.BoolVar(&o.Attachable, "attachable", false, "accepted for scripts: every container can join")
	f.StringArrayVar(&labels, "label", nil, "KEY=VALUE")
	f.StringArrayVarP(&opts, "opt", "o", nil, "KEY=VALUE of the driver, like com.docker.network.driver.mtu=1400")
	return cmd
}

func (e *env) networkConnect() *cobra.Command {
	var p endpointFlags
	cmd := &cobra.Command{
		Use: "connect NETWORK CONTAINER", Short: "Put a container on a further network", Args: exactly("a network", "a container"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			ep, err := p.settings()
			if err != nil {
				return usageError{err}
			}
			_, err = c.NetworkConnect(cmd.Context(), args[0], client.NetworkConnectOptions{Container: args[1], EndpointConfig: ep})
			return err
		},
	}
	p.add(cmd.Flags())
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
		Use: "rm NETWORK…", Aliases: []string{"remove"}, Short: "Remove networks that no container is on", Args: atLeast(1, "network"),
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

func (e *env) networkPrune() *cobra.Command {
	var filter []string
	cmd := &cobra.Command{
		Use: "prune", Short: "Remove the networks that no container is on", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			f, err := parseFilters(filter)
			if err != nil {
				return err
			}
			got, err := c.NetworkPrune(cmd.Context(), client.NetworkPruneOptions{Filters: f})
			if err != nil {
				return err
			}
			for _, n := range got.Report.NetworksDeleted {
				fmt.Fprintln(e.out, n)
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&filter, "filter", nil, "NAME=VALUE: label, label!, until")
	cmd.Flags().BoolP("force", "f", false, "accepted for scripts: there is no question")
	return cmd
}
