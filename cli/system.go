// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/knarr/knarr/internal/version"
)

func (e *env) events() *cobra.Command {
	var o client.EventsListOptions
	var filter []string
	cmd := &cobra.Command{
		Use: "events", Short: "Show what happens, until interrupted", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			if o.Filters, err = parseFilters(filter); err != nil {
				return err
			}
			stream := c.Events(cmd.Context(), o)
			for {
				select {
				case m := <-stream.Messages:
					fmt.Fprintf(e.out, "%s %s %s %s", time.Unix(0, m.TimeNano).Format(time.RFC3339Nano), m.Type, m.Action, m.Actor.ID)
					for _, k := range sortedKeys(m.Actor.Attributes) {
						fmt.Fprintf(e.out, " %s=%s", k, m.Actor.Attributes[k])
					}
					fmt.Fprintln(e.out)
				case err := <-stream.Err:
					if errors.Is(err, io.EOF) { // --until has come
						return nil
					}
					return err
				}
			}
		},
	}
	cmd.Flags().StringVar(&o.Since, "since", "", "from a time on")
	cmd.Flags().StringVar(&o.Until, "until", "", "up to a time")
	cmd.Flags().StringArrayVarP(&filter, "filter", "f", nil, "NAME=VALUE: type, event, container, image, label, …")
	return cmd
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (e *env) info() *cobra.Command {
	return &cobra.Command{
		Use: "info", Short: "Facts about the daemon and its machine", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			got, err := c.Info(cmd.Context(), client.InfoOptions{})
			if err != nil {
				return err
			}
			enc := json.NewEncoder(e.out)
			enc.SetIndent("", "  ")
			return enc.Encode(got.Info)
		},
	}
}

func (e *env) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Versions of knarr and of the daemon", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintf(e.out, "knarr   %s (Docker API %s, Kubernetes %s)\n", version.Version, version.DockerAPI, version.Kubernetes)
			c, err := e.engine()
			if err != nil {
				return err
			}
			got, err := c.ServerVersion(cmd.Context(), client.ServerVersionOptions{})
			if err != nil {
				return err
			}
			fmt.Fprintf(e.out, "knarrd  %s at %s\n", got.Version, e.address())
			return nil
		},
	}
}
