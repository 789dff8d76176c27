// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/docker/go-units"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func (e *env) builder() *cobra.Command {
	cmd := &cobra.Command{Use: "builder", Short: "The build cache: prune"}
	var o client.BuildCachePruneOptions
	var filter []string
	var keep string
	prune := &cobra.Command{
		Use: "prune [flags]", Short: "Remove cached steps that nothing was made of, and cache mounts unused for two days", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			if o.Filters, err = parseFilters(filter); err != nil {
				return err
			}
			if keep != "" {
				if o.ReservedSpace, err = size("--keep-storage", keep); err != nil {
					return usageError{err}
				}
			}
			got, err := c.BuildCachePrune(cmd.Context(), o)
			if err != nil {
				return err
			}
			for _, id := range got.Report.CachesDeleted {
				fmt.Fprintln(e.out, id)
			}
			fmt.Fprintf(e.out, "Total reclaimed space: %s\n", units.HumanSize(float64(got.Report.SpaceReclaimed)))
			return nil
		},
	}
	prune.Flags().BoolVarP(&o.All, "all", "a", false, "every cached step and every cache mount that no build has now")
	prune.Flags().StringVar(&keep, "keep-storage", "", "cache mounts may keep so much, like 2g")
	prune.Flags().StringArrayVar(&filter, "filter", nil, "until=24h, id=ID")
	prune.Flags().BoolP("force", "f", true, "there is no question")
	cmd.AddCommand(prune)
	return cmd
}
