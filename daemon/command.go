// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/version"
)

// Main runs knarrd with the arguments after its name and answers the exit code: 0; 1 for a failure; 2 for wrong usage.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "kubectl" {
		return kubectl(args[1:]) // it has its own flags, help and exit codes
	}
	cmd := command(stderr)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(stderr, "knarrd:", line)
	}
	if k := errs.Kind(err); k == errs.Invalid {
		return 2
	}
	return 1
}

func command(stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use: "knarrd", Short: "Knarr's daemon: container engine, control plane and node in any combination",
		Version: version.Version, SilenceErrors: true, SilenceUsage: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return errs.New(errs.Invalid, "%w; see %s --help", err, c.CommandPath())
	})
	for _, set := range roleSets {
		root.AddCommand(roleCommand(set.name, set.short, stderr, func(ctx context.Context, c Config, log *slog.Logger) error {
			c.Roles = set.roles
			if err := c.Complete(); err != nil {
				return err
			}
			return Run(ctx, c, log)
		}))
	}
	var purge bool
	stop := roleCommand("stop-all", "stop and remove every container of an instance whose daemon does not run", stderr,
		func(ctx context.Context, c Config, log *slog.Logger) error {
			c.Roles = []Role{Engine}
			if err := c.Complete(); err != nil {
				return err
			}
			return StopAll(ctx, c, purge, log)
		})
	stop.Flags().BoolVar(&purge, "purge", false, "remove the data folder too")
	root.AddCommand(stop)
	var deep bool
	fsck := roleCommand("fsck", "check the engine's state of an instance whose daemon does not run", stderr,
		func(ctx context.Context, c Config, log *slog.Logger) error {
			c.Roles = []Role{Engine}
			if err := c.Complete(); err != nil {
				return err
			}
			return Fsck(ctx, c, deep, os.Stdout, log)
		})
	fsck.Flags().BoolVar(&deep, "deep", false, "read all content again and compare digests")
	root.AddCommand(fsck)
	root.AddCommand(&cobra.Command{Use: "kubectl", Short: "kubectl, built in; `knarr kubectl` runs it with the cluster's kubeconfig", Hidden: true})
	return root
}

func roleCommand(name, short string, stderr io.Writer, run func(context.Context, Config, *slog.Logger) error) *cobra.Command {
	c := Default()
	var file string
	cmd := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file != "" {
				if err := c.ReadFile(file, cmd.Flags()); err != nil {
					return err
				}
			}
			var level slog.Level
			if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
				return errs.New(errs.Invalid, "--log-level %q: want debug, info, warn or error", c.LogLevel)
			}
			return run(cmd.Context(), c, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})))
		},
	}
	c.AddFlags(cmd.Flags())
	cmd.Flags().StringVar(&file, "config", "", "YAML file with the same names as the flags; flags win")
	return cmd
}
