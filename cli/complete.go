// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"
	"time"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

// completed says what the arguments of a command name: container, running, image, volume, network, or nothing.
func completed(c *cobra.Command) string {
	switch c.CommandPath() {
	case "knarr start", "knarr inspect", "knarr logs", "knarr rm", "knarr rename", "knarr diff", "knarr commit", "knarr wait",
		"knarr export", "knarr update":
		return "container"
	case "knarr attach", "knarr exec", "knarr stop", "knarr restart", "knarr kill", "knarr pause", "knarr unpause", "knarr top",
		"knarr stats", "knarr port":
		return "running"
	case "knarr run", "knarr create", "knarr rmi", "knarr tag", "knarr push", "knarr save", "knarr history":
		return "image"
	case "knarr volume inspect", "knarr volume rm":
		return "volume"
	case "knarr network inspect", "knarr network rm", "knarr network connect", "knarr network disconnect":
		return "network"
	}
	return ""
}

// several is whether all arguments are of the completed kind, or only the first.
func several(c *cobra.Command) bool {
	return strings.Contains(c.Use, "…") && !strings.Contains(c.Use, "COMMAND")
}

// complete offers names from the daemon; when none answers soon there is nothing to offer.
func (e *env) complete(kind string, of *cobra.Command) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 && !several(of) {
			return nil, cobra.ShellCompDirectiveDefault
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
		defer cancel()
		c, err := e.engine()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return e.names(ctx, c, kind), cobra.ShellCompDirectiveNoFileComp
	}
}

func (e *env) names(ctx context.Context, c *client.Client, kind string) (out []string) {
	switch kind {
	case "container", "running":
		list, _ := c.ContainerList(ctx, client.ContainerListOptions{All: kind == "container"})
		for _, i := range list.Items {
			for _, n := range i.Names {
				out = append(out, strings.TrimPrefix(n, "/")+"\t"+i.Image+", "+i.Status)
			}
		}
	case "image":
		list, _ := c.ImageList(ctx, client.ImageListOptions{})
		for _, i := range list.Items {
			out = append(out, i.RepoTags...)
		}
	case "volume":
		list, _ := c.VolumeList(ctx, client.VolumeListOptions{})
		for _, i := range list.Items {
			out = append(out, i.Name)
		}
	case "network":
		list, _ := c.NetworkList(ctx, client.NetworkListOptions{})
		for _, i := range list.Items {
			out = append(out, i.Name)
		}
	}
	return out
}
