// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/knarr/knarr/internal/detach"
)

func (e *env) attach() *cobra.Command {
	var noStdin bool
	var keys func() ([]byte, error)
	cmd := &cobra.Command{
		Use: "attach [flags] CONTAINER", Short: "Connect to a running container's streams", Args: exactly("a container"),
		Long: "Connect to a running container's streams, and end with its exit code.\n" +
			"On a terminal ctrl-p ctrl-q leaves it running.",
		RunE: func(cmd *cobra.Command, args []string) error {
			leave, err := keys()
			if err != nil {
				return err
			}
			c, err := e.engine()
			if err != nil {
				return err
			}
			return e.attachTo(cmd.Context(), c, args[0], !noStdin, leave)
		},
	}
	cmd.Flags().BoolVar(&noStdin, "no-stdin", false, "only watch")
	keys = detachKeys(cmd.Flags())
	return cmd
}

func (e *env) attachTo(ctx context.Context, c *client.Client, ref string, stdin bool, leave []byte) error {
	got, err := c.ContainerInspect(ctx, ref, client.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	if !got.Container.State.Running {
		return fmt.Errorf("container %s does not run; see its output with: knarr logs %s", ref, ref)
	}
	cfg, id := got.Container.Config, got.Container.ID
	stdin = stdin && cfg.OpenStdin
	wait := c.ContainerWait(ctx, id, client.ContainerWaitOptions{})
	conn, err := c.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: stdin, Stdout: true, Stderr: true})
	if err != nil {
		return err
	}
	defer conn.Close()
	t, err := e.terminal(cfg.Tty, stdin)
	if err != nil {
		return err
	}
	defer t.restore()
	defer t.follow(ctx, func(rows, cols uint) {
		c.ContainerResize(ctx, id, client.ContainerResizeOptions{Height: rows, Width: cols})
	})()
	if !cfg.Tty {
		defer e.forwardSignals(ctx, c, id)()
	}
	streamed := make(chan error, 1)
	go func() { streamed <- e.pipe(conn.HijackedResponse, stdin, cfg.Tty, leave) }()
	return e.outcome(wait, streamed, t, ref)
}

func (e *env) exec() *cobra.Command {
	var o client.ExecCreateOptions
	var background bool
	var keys func() ([]byte, error)
	cmd := &cobra.Command{
		Use: "exec [flags] CONTAINER COMMAND [ARG…]", Short: "Run a further process in a running container",
		Args: atLeast(2, "arguments: a container and a command"), Example: "  knarr exec -it web sh",
		RunE: func(cmd *cobra.Command, args []string) error {
			leave, err := keys()
			if err != nil {
				return err
			}
			c, err := e.engine()
			if err != nil {
				return err
			}
			o.Cmd, o.AttachStdout, o.AttachStderr = args[1:], !background, !background
			created, err := c.ExecCreate(cmd.Context(), args[0], o)
			if err != nil {
				return e.runError(err)
			}
			if background {
				_, err := c.ExecStart(cmd.Context(), created.ID, client.ExecStartOptions{Detach: true, TTY: o.TTY})
				return e.runError(err)
			}
			return e.followExec(cmd.Context(), c, created.ID, o, leave)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&o.AttachStdin, "interactive", "i", false, "keep stdin open")
	f.BoolVarP(&o.TTY, "tty", "t", false, "give it a terminal")
	f.BoolVarP(&background, "detach", "d", false, "run in the background")
	f.StringArrayVarP(&o.Env, "env", "e", nil, "KEY=VALUE")
	f.StringVarP(&o.User, "user", "u", "", "USER[:GROUP]")
	f.StringVarP(&o.WorkingDir, "workdir", "w", "", "working directory")
	f.BoolVar(&o.Privileged, "privileged", false, "all capabilities")
	keys = detachKeys(f)
	return cmd
}

// followExec starts a process, connected, and ends with its exit code.
func (e *env) followExec(ctx context.Context, c *client.Client, id string, o client.ExecCreateOptions, leave []byte) error {
	t, err := e.terminal(o.TTY, o.AttachStdin)
	if err != nil {
		return err
	}
	defer t.restore()
	conn, err := c.ExecAttach(ctx, id, client.ExecAttachOptions{TTY: o.TTY})
	if err != nil {
		return e.runError(err)
	}
	defer conn.Close()
	defer t.follow(ctx, func(rows, cols uint) {
		c.ExecResize(ctx, id, client.ExecResizeOptions{Height: rows, Width: cols})
	})()
	err = e.pipe(conn.HijackedResponse, o.AttachStdin, o.TTY, leave)
	t.restore()
	if errors.Is(err, detach.ErrDetached) {
		fmt.Fprintln(e.err, "\ndetached; the process goes on")
		return nil
	}
	if err != nil {
		return err
	}
	st, err := c.ExecInspect(ctx, id, client.ExecInspectOptions{})
	if err != nil {
		return err
	}
	if st.ExitCode != 0 {
		return exitError{code: st.ExitCode}
	}
	return nil
}
