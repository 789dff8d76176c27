// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/knarr/knarr/internal/detach"
)

// exit codes of run, create and exec, as Docker has them.
const (
	engineFailed    = 125
	cannotExecute   = 126
	commandNotFound = 127
)

func (e *env) create() *cobra.Command {
	var f containerFlags
	cmd := &cobra.Command{
		Use: "create [flags] IMAGE [COMMAND] [ARG…]", Short: "Make a container without starting it", Args: atLeast(1, "argument: an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			id, err := e.make(cmd.Context(), c, &f, args)
			if err != nil {
				return e.runError(err)
			}
			fmt.Fprintln(e.out, id)
			return nil
		},
	}
	f.add(cmd.Flags())
	return cmd
}

func (e *env) run() *cobra.Command {
	var f containerFlags
	var background bool
	var keys func() ([]byte, error)
	cmd := &cobra.Command{
		Use: "run [flags] IMAGE [COMMAND] [ARG…]", Short: "Make a container and run it", Args: atLeast(1, "argument: an image"),
		Example: "  knarr run --rm -it busybox sh\n  knarr run -d --name web -p 8080:80 web",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			leave, err := keys()
			if err != nil {
				return err
			}
			return e.runContainer(cmd.Context(), c, &f, background, leave, args)
		},
	}
	f.add(cmd.Flags())
	keys = detachKeys(cmd.Flags())
	cmd.Flags().BoolVarP(&background, "detach", "d", false, "run in the background and print the container's ID")
	return cmd
}

// make creates the container of a command line; a missing image is pulled first, with its progress.
func (e *env) make(ctx context.Context, c *client.Client, f *containerFlags, args []string) (string, error) {
	opts, err := f.options(args)
	if err != nil {
		return "", usageError{err}
	}
	if f.pull == "always" {
		if err := e.pullImage(ctx, c, args[0]); err != nil {
			return "", err
		}
	}
	res, err := c.ContainerCreate(ctx, opts)
	if err != nil && strings.Contains(err.Error(), "No such image") && f.pull != "never" {
		fmt.Fprintf(e.err, "image %s is not here; pulling it\n", args[0])
		if err := e.pullImage(ctx, c, args[0]); err != nil {
			return "", err
		}
		res, err = c.ContainerCreate(ctx, opts)
	}
	if err != nil {
		return "", err
	}
	for _, w := range res.Warnings {
		fmt.Fprintln(e.err, "warning:", w)
	}
	if f.cidfile != "" {
		if err := os.WriteFile(f.cidfile, []byte(res.ID), 0o644); err != nil {
			return "", err
		}
	}
	return res.ID, nil
}

func (e *env) runContainer(ctx context.Context, c *client.Client, f *containerFlags, background bool, leave []byte, args []string) error {
	f.attached = !background
	id, err := e.make(ctx, c, f, args)
	if err != nil {
		return e.runError(err)
	}
	if background {
		if _, err := c.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
			return e.runError(err)
		}
		fmt.Fprintln(e.out, id)
		return nil
	}
	return e.follow(ctx, c, following{id: id, name: cmp.Or(f.name, id[:12]), stdin: f.interactive, tty: f.tty, removed: f.rm, leave: leave})
}

// following says how to follow a container.
type following struct {
	id, name            string
	stdin, tty, removed bool   // removed: it is gone once it has ended
	leave               []byte // keys that detach
}

// follow attaches to a container that is about to run, starts it, and ends with its exit code.
func (e *env) follow(ctx context.Context, c *client.Client, f following) error {
	id, stdin, tty := f.id, f.stdin, f.tty
	conn, err := c.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: stdin, Stdout: true, Stderr: true})
	if err != nil {
		return e.runError(err)
	}
	defer conn.Close()
	cond := container.WaitConditionNextExit
	if f.removed {
		cond = container.WaitConditionRemoved
	}
	wait := c.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: cond})
	t, err := e.terminal(tty, stdin)
	if err != nil {
		return err
	}
	defer t.restore()
	streamed := make(chan error, 1)
	go func() { streamed <- e.pipe(conn.HijackedResponse, stdin, tty, f.leave) }()
	if _, err := c.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
		return e.runError(err)
	}
	stop := t.follow(ctx, func(rows, cols uint) {
		c.ContainerResize(ctx, id, client.ContainerResizeOptions{Height: rows, Width: cols})
	})
	defer stop()
	if !tty {
		defer e.forwardSignals(ctx, c, id)()
	}
	return e.outcome(wait, streamed, t, f.name)
}

// outcome waits for the end of a container that is followed, or of following it.
func (e *env) outcome(wait client.ContainerWaitResult, streamed chan error, t *terminal, name string) error {
	select {
	case err := <-streamed:
		if errors.Is(err, detach.ErrDetached) {
			t.restore()
			e.left(name)
			return nil
		}
		streamed <- err
	case err := <-wait.Error:
		return e.runError(err)
	case r := <-wait.Result:
		again := make(chan container.WaitResponse, 1)
		again <- r
		wait.Result = again
	}
	select {
	case r := <-wait.Result:
		<-streamed
		if r.Error != nil && r.Error.Message != "" && r.StatusCode == 0 {
			return exitError{engineFailed, r.Error.Message}
		}
		if r.StatusCode != 0 {
			t.restore()
			return exitError{code: int(r.StatusCode)}
		}
		return nil
	case err := <-wait.Error:
		return e.runError(err)
	}
}

// runError chooses Docker's exit code for what kept a container from running.
func (e *env) runError(err error) error {
	var usage usageError
	var exit exitError
	if err == nil || errors.As(err, &usage) || errors.As(err, &exit) {
		return err
	}
	text := e.explain(err)
	switch {
	case strings.Contains(text, "executable file not found"), strings.Contains(text, "no such file or directory"):
		return exitError{commandNotFound, text}
	case strings.Contains(text, "permission denied"), strings.Contains(text, "is a directory"):
		return exitError{cannotExecute, text}
	}
	return exitError{engineFailed, text}
}
