// SPDX-License-Identifier: Apache-2.0

// Package cli is the knarr command: Docker's verbs for containers, and up, down, status and kubectl for the cluster.
//
// It is a client of the daemon's sockets and holds no engine code, so that it starts in a few milliseconds. One file per
// command or family of them; commands.go lists them all. A command writes its result to stdout, progress and errors to
// stderr, and exits with Docker's codes: the container's own; 125 when the engine failed, 126 and 127 when the program could
// not be executed; 1 otherwise, 2 for wrong usage.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/knarr/knarr/internal/version"
)

// env is what every command works with.
type env struct {
	in       io.Reader
	out, err io.Writer
	host     string // --host
}

// exitError ends the program with a code; without a text it says nothing more.
type exitError struct {
	code int
	text string
}

func (e exitError) Error() string { return e.text }

// usageError is wrong usage: exit code 2.
type usageError struct{ error }

// Main runs knarr with the arguments after its name and answers the exit code.
func Main(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	e := &env{in: in, out: out, err: errOut}
	root := e.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	var exit exitError
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.text != "" {
			fmt.Fprintln(errOut, "knarr:", exit.text)
		}
		return exit.code
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "unknown command"):
		fmt.Fprintln(errOut, "knarr:", err)
		return 2
	}
	fmt.Fprintln(errOut, "knarr:", e.explain(err))
	return 1
}

func (e *env) root() *cobra.Command {
	root := &cobra.Command{
		Use: "knarr", Short: "Containers and a Kubernetes cluster in one small system", Version: version.Version,
		SilenceErrors: true, SilenceUsage: true,
	}
	root.PersistentFlags().StringVarP(&e.host, "host", "H", "", "daemon socket (default $KNARR_HOST, $DOCKER_HOST, or unix:///run/knarr/engine.sock)")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	for _, c := range e.commands() {
		if c.Args == nil {
			c.Args = cobra.ArbitraryArgs
		}
		root.AddCommand(c)
	}
	root.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	prepare(root, e)
	return root
}

// prepare makes every complaint about arguments wrong usage, and gives each command the names it can complete.
func prepare(c *cobra.Command, e *env) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			err := check(c, args)
			if err == nil || errors.As(err, new(usageError)) {
				return err
			}
			return usageError{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
		}
	}
	if kind := completed(c); kind != "" && c.ValidArgsFunction == nil {
		c.ValidArgsFunction = e.complete(kind, c)
	}
	for _, sub := range c.Commands() {
		prepare(sub, e)
	}
}

// group is a command that only has commands below it.
func group(use, short string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, RunE: func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("unknown command %q for %q; see %s --help", args[0], c.CommandPath(), c.CommandPath())}
		}
		return c.Help()
	}}
	cmd.AddCommand(sub...)
	return cmd
}

// defaultHost is where the daemon of the default instance listens.
const defaultHost = "unix:///run/knarr/engine.sock"

// address is where the daemon is: --host, KNARR_HOST, DOCKER_HOST, else the default.
func (e *env) address() string {
	for _, h := range []string{e.host, os.Getenv("KNARR_HOST"), os.Getenv("DOCKER_HOST")} {
		if h != "" {
			return h
		}
	}
	return defaultHost
}

// engine is a client of the daemon. It connects when it is used.
func (e *env) engine() (*client.Client, error) {
	c, err := client.New(client.WithHost(e.address()), client.WithAPIVersion(version.DockerAPI))
	if err != nil {
		return nil, usageError{fmt.Errorf("--host %s: %w", e.address(), err)}
	}
	return c, nil
}

// explain turns the daemon's errors into a sentence with the way out.
func (e *env) explain(err error) string {
	if client.IsErrConnectionFailed(err) {
		return fmt.Sprintf("no daemon answers at %s; start one with: knarr up", e.address())
	}
	return strings.TrimPrefix(err.Error(), "Error response from daemon: ")
}

// exactly demands n arguments, named in the error.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usageError{fmt.Errorf("%s wants %s, not %d arguments; see %s --help", c.CommandPath(), strings.Join(names, " and "), len(args), c.CommandPath())}
		}
		return nil
	}
}

// atLeast demands one or more arguments.
func atLeast(n int, name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < n {
			return usageError{fmt.Errorf("%s wants at least %d %s; see %s --help", c.CommandPath(), n, name, c.CommandPath())}
		}
		return nil
	}
}
