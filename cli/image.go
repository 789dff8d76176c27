// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

// image is the group that docker has its image commands in; most are also commands of their own.
func (e *env) image() *cobra.Command {
	list := e.images("ls")
	list.Aliases = []string{"list"}
	remove := e.rmi("rm")
	remove.Aliases = []string{"remove"}
	return group("image", "Images: all commands about them",
		list, e.imageInspect(), e.history(), e.tag(), remove, e.imagePrune(), e.pull(), e.push(), e.load(), e.save(), e.importCommand(), e.build())
}

func (e *env) imageInspect() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "inspect [flags] IMAGE…", Short: "Everything known of images, as JSON", Args: atLeast(1, "image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			var failed []error
			found := []any{}
			for _, ref := range args {
				got, err := c.ImageInspect(cmd.Context(), ref)
				if err != nil {
					failed = append(failed, errors.New(e.explain(err)))
					continue
				}
				found = append(found, got.InspectResponse)
			}
			if format != "" {
				if err := printEach(e.out, format, found); err != nil {
					return err
				}
				return errors.Join(failed...)
			}
			enc := json.NewEncoder(e.out)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "    ")
			return errors.Join(append(failed, enc.Encode(found))...)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "json, or a Go template")
	return cmd
}

func (e *env) imagePrune() *cobra.Command {
	var all, force bool
	var filter []string
	cmd := &cobra.Command{
		Use: "prune [flags]", Short: "Remove images without a name, or all that no container uses", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			if !force {
				return usageError{errors.New("image prune removes images for good: say --force")}
			}
			f, err := parseFilters(filter)
			if err != nil {
				return err
			}
			got, err := c.ImagePrune(cmd.Context(), client.ImagePruneOptions{Filters: f.Add("dangling", fmt.Sprint(!all))})
			if err != nil {
				return err
			}
			for _, r := range got.Report.ImagesDeleted {
				if r.Untagged != "" {
					fmt.Fprintln(e.out, "untagged:", r.Untagged)
				}
				if r.Deleted != "" {
					fmt.Fprintln(e.out, "deleted:", strings.TrimSpace(r.Deleted))
				}
			}
			fmt.Fprintln(e.out, "Total reclaimed space:", units.HumanSizeWithPrecision(float64(got.Report.SpaceReclaimed), 3))
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&all, "all", "a", false, "also named images that no container uses")
	f.BoolVarP(&force, "force", "f", false, "do not ask")
	f.StringArrayVar(&filter, "filter", nil, "NAME=VALUE: until=24h, label=KEY[=VALUE], label!=KEY[=VALUE]")
	return cmd
}
