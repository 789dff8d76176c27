// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
)

// parsePlatform reads OS/ARCHITECTURE[/VARIANT].
func parsePlatform(text string) (ocispec.Platform, error) {
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return ocispec.Platform{}, usageError{fmt.Errorf("--platform %q: want OS/ARCHITECTURE[/VARIANT], like linux/arm64", text)}
	}
	p := ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// pullImage pulls as `knarr run` does when an image is missing.
func (e *env) pullImage(ctx context.Context, c *client.Client, ref string) error {
	return e.pullWith(ctx, c, ref, client.ImagePullOptions{})
}

func (e *env) pullWith(ctx context.Context, c *client.Client, ref string, o client.ImagePullOptions) (err error) {
	if o.RegistryAuth, err = authHeader(ctx, ref); err != nil {
		return err
	}
	r, err := c.ImagePull(ctx, ref, o)
	if err != nil {
		return err
	}
	defer r.Close()
	return e.show(r, nil)
}

// quietly is e without progress.
func (e *env) quietly(quiet bool) *env {
	out := *e
	if quiet {
		out.err = io.Discard
	}
	return &out
}

func (e *env) pull() *cobra.Command {
	var o client.ImagePullOptions
	var platform string
	var quiet bool
	cmd := &cobra.Command{
		Use: "pull [flags] IMAGE", Short: "Fetch an image from its registry", Args: exactly("an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if platform != "" {
				p, err := parsePlatform(platform)
				if err != nil {
					return err
				}
				o.Platforms = []ocispec.Platform{p}
			}
			c, err := e.engine()
			if err != nil {
				return err
			}
			if err := e.quietly(quiet).pullWith(cmd.Context(), c, args[0], o); err != nil {
				return err
			}
			if quiet {
				fmt.Fprintln(e.out, args[0])
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.All, "all-tags", "a", false, "every tag of the repository")
	f.StringVar(&platform, "platform", "", "OS/ARCHITECTURE[/VARIANT] (default: this machine's)")
	f.BoolVarP(&quiet, "quiet", "q", false, "print only the name")
	return cmd
}

func (e *env) push() *cobra.Command {
	var o client.ImagePushOptions
	var quiet bool
	cmd := &cobra.Command{
		Use: "push [flags] IMAGE", Short: "Send an image to its registry", Args: exactly("an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			if o.RegistryAuth, err = authHeader(cmd.Context(), args[0]); err != nil {
				return err
			}
			r, err := c.ImagePush(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			defer r.Close()
			if err := e.quietly(quiet).show(r, nil); err != nil {
				return err
			}
			if quiet {
				fmt.Fprintln(e.out, args[0])
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&o.All, "all-tags", "a", false, "every local tag of the repository")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print only the name")
	return cmd
}

func (e *env) search() *cobra.Command {
	var o client.ImageSearchOptions
	var filter []string
	var format string
	var noTrunc bool
	cmd := &cobra.Command{
		Use: "search [flags] [REGISTRY/]TERM", Short: "Look for images in a registry", Args: exactly("a term"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			if o.Filters, err = parseFilters(filter); err != nil {
				return err
			}
			if o.RegistryAuth, err = authHeader(cmd.Context(), args[0]); err != nil {
				return err
			}
			got, err := c.ImageSearch(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			if format != "" {
				return printEach(e.out, format, got.Items)
			}
			w := tabwriter.NewWriter(e.out, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "NAME\tDESCRIPTION\tSTARS\tOFFICIAL")
			for _, r := range got.Items {
				about, official := strings.NewReplacer("\n", " ", "\t", " ").Replace(r.Description), ""
				if text := []rune(about); !noTrunc && len(text) > 45 {
					about = string(text[:44]) + "…"
				}
				if r.IsOfficial {
					official = "[OK]"
				}
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", r.Name, about, r.StarCount, official)
			}
			return w.Flush()
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Limit, "limit", 0, "at most so many (default 25)")
	f.StringArrayVarP(&filter, "filter", "f", nil, "NAME=VALUE: stars, is-official, is-automated")
	f.StringVar(&format, "format", "", "json, or a Go template")
	f.BoolVar(&noTrunc, "no-trunc", false, "do not shorten")
	return cmd
}
