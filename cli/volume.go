// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func (e *env) volume() *cobra.Command {
	return group("volume", "Volumes: ls, create, inspect, rm, prune", e.volumeLs(), e.volumeCreate(), e.inspectOf("volume"), e.volumeRm(), e.volumePrune())
}

func (e *env) volumeLs() *cobra.Command {
	var quiet bool
	var filter []string
	cmd := &cobra.Command{
		Use: "ls", Short: "List volumes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			f, err := parseFilters(filter)
			if err != nil {
				return err
			}
			list, err := c.VolumeList(cmd.Context(), client.VolumeListOptions{Filters: f})
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(e.out, 0, 0, 3, ' ', 0)
			if !quiet {
				fmt.Fprintln(w, "DRIVER\tVOLUME NAME")
			}
			for _, v := range list.Items {
				if quiet {
					fmt.Fprintln(w, v.Name)
				} else {
					fmt.Fprintf(w, "%s\t%s\n", v.Driver, v.Name)
				}
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "only names")
	cmd.Flags().StringArrayVarP(&filter, "filter", "f", nil, "NAME=VALUE: name, label, dangling, driver")
	return cmd
}

func (e *env) volumeCreate() *cobra.Command {
	var o client.VolumeCreateOptions
	var labels, opts []string
	cmd := &cobra.Command{
		Use: "create [NAME]", Short: "Make a volume", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				o.Name = args[0]
			}
			if o.Labels, err = keyValues("--label", labels); err != nil {
				return usageError{err}
			}
			if o.DriverOpts, err = keyValues("--opt", opts); err != nil {
				return usageError{err}
			}
			v, err := c.VolumeCreate(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintln(e.out, v.Volume.Name)
			return nil
		},
	}
	cmd.Flags().StringVarP(&o.Driver, "driver", "d", "local", "driver")
	cmd.Flags().StringArrayVar(&labels, "label", nil, "KEY=VALUE")
	cmd.Flags().StringArrayVarP(&opts, "opt", "o", nil, "KEY=VALUE of the driver")
	return cmd
}

// inspectOf is `volume inspect` and `network inspect`.
func (e *env) inspectOf(kind string) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "inspect NAME…", Short: "Everything about a " + kind, Args: atLeast(1, "name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			items := []json.RawMessage{}
			for _, name := range args {
				raw, err := e.find(cmd.Context(), c, kind, name)
				if err != nil {
					return err
				}
				items = append(items, raw)
			}
			return e.printInspected(format, items)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "a Go template")
	return cmd
}

func (e *env) volumeRm() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "rm NAME…", Aliases: []string{"remove"}, Short: "Remove volumes that no container uses", Args: atLeast(1, "name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			var failed []error
			for _, name := range args {
				if _, err := c.VolumeRemove(cmd.Context(), name, client.VolumeRemoveOptions{Force: force}); err != nil {
					failed = append(failed, errors.New(e.explain(err)))
					continue
				}
				fmt.Fprintln(e.out, name)
			}
			return errors.Join(failed...)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "one that is missing is no error")
	return cmd
}

func (e *env) volumePrune() *cobra.Command {
	var all bool
	var filter []string
	cmd := &cobra.Command{
		Use: "prune", Short: "Remove the anonymous volumes that no container uses", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			f, err := parseFilters(filter)
			if err != nil {
				return err
			}
			got, err := c.VolumePrune(cmd.Context(), client.VolumePruneOptions{All: all, Filters: f})
			if err != nil {
				return err
			}
			for _, v := range got.Report.VolumesDeleted {
				fmt.Fprintln(e.out, v)
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "named ones too")
	cmd.Flags().StringArrayVar(&filter, "filter", nil, "NAME=VALUE: label, label!")
	cmd.Flags().BoolP("force", "f", false, "accepted for scripts: there is no question")
	return cmd
}
