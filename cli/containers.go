// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

// each is a command that does one thing to each container it is given, prints its name, and goes on after a failure.
func (e *env) each(use, short string, do func(ctx context.Context, c *client.Client, ref string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: atLeast(1, "container"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			var failed []error
			for _, ref := range args {
				if err := do(cmd.Context(), c, ref); err != nil {
					failed = append(failed, errors.New(e.explain(err)))
					continue
				}
				fmt.Fprintln(e.out, ref)
			}
			return errors.Join(failed...)
		},
	}
}

func (e *env) kill() *cobra.Command {
	var sig string
	cmd := e.each("kill [-s SIGNAL] CONTAINER…", "Send a signal to containers", func(ctx context.Context, c *client.Client, ref string) error {
		_, err := c.ContainerKill(ctx, ref, client.ContainerKillOptions{Signal: sig})
		return err
	})
	cmd.Flags().StringVarP(&sig, "signal", "s", "KILL", "name or number")
	return cmd
}

func (e *env) pause() *cobra.Command {
	return e.each("pause CONTAINER…", "Freeze all processes of containers", func(ctx context.Context, c *client.Client, ref string) error {
		_, err := c.ContainerPause(ctx, ref, client.ContainerPauseOptions{})
		return err
	})
}

func (e *env) unpause() *cobra.Command {
	return e.each("unpause CONTAINER…", "Undo pause", func(ctx context.Context, c *client.Client, ref string) error {
		_, err := c.ContainerUnpause(ctx, ref, client.ContainerUnpauseOptions{})
		return err
	})
}

func (e *env) rm() *cobra.Command {
	var o client.ContainerRemoveOptions
	cmd := e.each("rm [flags] CONTAINER…", "Remove containers", func(ctx context.Context, c *client.Client, ref string) error {
		_, err := c.ContainerRemove(ctx, ref, o)
		return err
	})
	cmd.Flags().BoolVarP(&o.Force, "force", "f", false, "kill running ones first")
	cmd.Flags().BoolVarP(&o.RemoveVolumes, "volumes", "v", false, "their anonymous volumes too")
	return cmd
}

func (e *env) start() *cobra.Command {
	var attach, interactive bool
	var keys func() ([]byte, error)
	cmd := e.each("start [flags] CONTAINER…", "Start containers that were created or have stopped", func(ctx context.Context, c *client.Client, ref string) error {
		_, err := c.ContainerStart(ctx, ref, client.ContainerStartOptions{})
		return err
	})
	plain := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !attach && !interactive {
			return plain(cmd, args)
		}
		if len(args) != 1 {
			return usageError{errors.New("start --attach takes one container")}
		}
		c, err := e.engine()
		if err != nil {
			return err
		}
		got, err := c.ContainerInspect(cmd.Context(), args[0], client.ContainerInspectOptions{})
		if err != nil {
			return err
		}
		leave, err := keys()
		if err != nil {
			return err
		}
		return e.follow(cmd.Context(), c, following{
			id: got.Container.ID, name: args[0], stdin: interactive && got.Container.Config.OpenStdin, tty: got.Container.Config.Tty, leave: leave,
			removed: got.Container.HostConfig.AutoRemove,
		})
	}
	keys = detachKeys(cmd.Flags())
	cmd.Flags().BoolVarP(&attach, "attach", "a", false, "show its output")
	cmd.Flags().BoolVarP(&interactive, "interactive", "i", false, "give it this stdin")
	return cmd
}

func (e *env) ps() *cobra.Command {
	var o client.ContainerListOptions
	var quiet, noTrunc bool
	var filter []string
	var format string
	cmd := &cobra.Command{
		Use: "ps [flags]", Short: "List containers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			if o.Filters, err = parseFilters(filter); err != nil {
				return err
			}
			list, err := c.ContainerList(cmd.Context(), o)
			if err != nil {
				return err
			}
			if format != "" {
				return printEach(e.out, format, list.Items)
			}
			w := tabwriter.NewWriter(e.out, 0, 0, 3, ' ', 0)
			if !quiet {
				fmt.Fprintln(w, "CONTAINER ID\tIMAGE\tCOMMAND\tCREATED\tSTATUS\tPORTS\tNAMES")
			}
			for _, s := range list.Items {
				id, command, image := s.ID, s.Command, s.Image
				if !noTrunc {
					id = id[:12]
					if hex, ok := strings.CutPrefix(image, "sha256:"); ok { // pods' containers name their image by its ID
						image = hex[:12]
					}
					if len(command) > 20 {
						command = command[:19] + "…"
					}
				}
				if quiet {
					fmt.Fprintln(w, id)
					continue
				}
				fmt.Fprintf(w, "%s\t%s\t%q\t%s\t%s\t%s\t%s\n", id, image, command, ago(time.Unix(s.Created, 0)), s.Status, ports(s.Ports),
					strings.TrimPrefix(strings.Join(s.Names, ","), "/"))
			}
			return w.Flush()
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.All, "all", "a", false, "stopped ones too")
	f.BoolVarP(&quiet, "quiet", "q", false, "only IDs")
	f.BoolVar(&noTrunc, "no-trunc", false, "whole IDs and commands")
	f.IntVarP(&o.Limit, "last", "n", 0, "the last N, in any state")
	f.StringArrayVarP(&filter, "filter", "f", nil, "NAME=VALUE: id, name, label, status, ancestor, network, volume, …")
	f.StringVar(&format, "format", "", "json, or a Go template")
	return cmd
}

func parseFilters(list []string) (client.Filters, error) {
	out := client.Filters{}
	for _, f := range list {
		k, v, ok := strings.Cut(f, "=")
		if !ok {
			return nil, usageError{fmt.Errorf("--filter %q: want NAME=VALUE", f)}
		}
		out.Add(k, v)
	}
	return out, nil
}

// printEach prints items as JSON lines or by a Go template, one line each.
func printEach[T any](w io.Writer, format string, items []T) error {
	if format == "json" {
		for _, it := range items {
			if err := json.NewEncoder(w).Encode(it); err != nil {
				return err
			}
		}
		return nil
	}
	t, err := template.New("format").Funcs(template.FuncMap{"json": toJSON, "join": strings.Join}).Parse(strings.ReplaceAll(format, `\t`, "\t"))
	if err != nil {
		return usageError{fmt.Errorf("--format: %w", err)}
	}
	for _, it := range items {
		if err := t.Execute(w, it); err != nil {
			return usageError{fmt.Errorf("--format: %w", err)}
		}
		fmt.Fprintln(w)
	}
	return nil
}

func toJSON(v any) (string, error) {
	data, err := json.Marshal(v)
	return string(data), err
}

func ports(list []container.PortSummary) string {
	var out []string
	for _, p := range list {
		if p.PublicPort != 0 {
			out = append(out, fmt.Sprintf("%s:%d->%d/%s", p.IP, p.PublicPort, p.PrivatePort, p.Type))
		} else {
			out = append(out, fmt.Sprintf("%d/%s", p.PrivatePort, p.Type))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func (e *env) logs() *cobra.Command {
	var o client.ContainerLogsOptions
	cmd := &cobra.Command{
		Use: "logs [flags] CONTAINER", Short: "Show what a container wrote", Args: exactly("a container"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			got, err := c.ContainerInspect(cmd.Context(), args[0], client.ContainerInspectOptions{})
			if err != nil {
				return err
			}
			o.ShowStdout, o.ShowStderr = true, true
			r, err := c.ContainerLogs(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			defer r.Close()
			return e.output(r, got.Container.Config.Tty)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.Follow, "follow", "f", false, "go on until it exits")
	f.StringVarP(&o.Tail, "tail", "n", "all", "only the last N lines")
	f.StringVar(&o.Since, "since", "", "after a time, or a duration ago (10m)")
	f.StringVar(&o.Until, "until", "", "before a time")
	f.BoolVarP(&o.Timestamps, "timestamps", "t", false, "with times")
	return cmd
}

func (e *env) inspect() *cobra.Command {
	var format, kind string
	cmd := &cobra.Command{
		Use: "inspect [flags] NAME…", Short: "Everything about containers, images, volumes or networks", Args: atLeast(1, "name"),
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
	cmd.Flags().StringVar(&kind, "type", "", "container, image, volume or network")
	return cmd
}

// find looks for a container, then an image, a volume, a network of that name.
func (e *env) find(ctx context.Context, c *client.Client, kind, name string) (json.RawMessage, error) {
	if kind == "" || kind == "container" {
		got, err := c.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
		if err == nil || kind != "" || client.IsErrConnectionFailed(err) {
			return got.Raw, err
		}
	}
	if kind == "" || kind == "image" {
		got, err := c.ImageInspect(ctx, name)
		if err == nil {
			return json.Marshal(got.InspectResponse)
		}
		if kind != "" {
			return nil, err
		}
	}
	if kind == "" || kind == "volume" {
		got, err := c.VolumeInspect(ctx, name, client.VolumeInspectOptions{})
		if err == nil || kind != "" {
			return got.Raw, err
		}
	}
	if kind == "" || kind == "network" {
		got, err := c.NetworkInspect(ctx, name, client.NetworkInspectOptions{})
		if err == nil || kind != "" {
			return got.Raw, err
		}
		return nil, fmt.Errorf("no such object: %s", name)
	}
	return nil, usageError{fmt.Errorf("--type %q: want container, image, volume or network", kind)}
}

func (e *env) printInspected(format string, items []json.RawMessage) error {
	if format == "" {
		enc := json.NewEncoder(e.out)
		enc.SetIndent("", "    ")
		return enc.Encode(items)
	}
	values := make([]any, len(items))
	for i, raw := range items {
		dec := json.NewDecoder(strings.NewReader(string(raw)))
		dec.UseNumber()
		if err := dec.Decode(&values[i]); err != nil {
			return err
		}
	}
	return printEach(e.out, format, values)
}

func (e *env) wait() *cobra.Command {
	return &cobra.Command{
		Use: "wait CONTAINER…", Short: "Wait until containers have stopped and print their exit codes", Args: atLeast(1, "container"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			for _, ref := range args {
				w := c.ContainerWait(cmd.Context(), ref, client.ContainerWaitOptions{})
				select {
				case r := <-w.Result:
					fmt.Fprintln(e.out, r.StatusCode)
				case err := <-w.Error:
					return err
				}
			}
			return nil
		},
	}
}

func (e *env) rename() *cobra.Command {
	return &cobra.Command{
		Use: "rename CONTAINER NAME", Short: "Give a container another name", Args: exactly("a container", "its new name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			_, err = c.ContainerRename(cmd.Context(), args[0], client.ContainerRenameOptions{NewName: args[1]})
			return err
		},
	}
}

func (e *env) top() *cobra.Command {
	var signals bool
	cmd := &cobra.Command{
		Use: "top CONTAINER [PS OPTIONS]", Short: "Show the processes of a container", Args: atLeast(1, "container"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			options := args[1:]
			if signals {
				options = []string{"-o", "pid,user,caught,ignored,blocked,queued,cmd"}
			}
			got, err := c.ContainerTop(cmd.Context(), args[0], client.ContainerTopOptions{Arguments: options})
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(e.out, 0, 0, 3, ' ', 0)
			for _, row := range append([][]string{got.Titles}, got.Processes...) {
				fmt.Fprintln(w, strings.Join(row, "\t"))
			}
			return w.Flush()
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows the container is for ps
	cmd.Flags().BoolVar(&signals, "signals", false, "what each process does with signals: catch, ignore, block, read from a signalfd")
	return cmd
}

func (e *env) diff() *cobra.Command {
	return &cobra.Command{
		Use: "diff CONTAINER", Short: "List what a container changed: A added, C changed, D deleted", Args: exactly("a container"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			got, err := c.ContainerDiff(cmd.Context(), args[0], client.ContainerDiffOptions{})
			if err != nil {
				return err
			}
			for _, ch := range got.Changes {
				fmt.Fprintln(e.out, ch.Kind, ch.Path)
			}
			return nil
		},
	}
}

func (e *env) commit() *cobra.Command {
	var o client.ContainerCommitOptions
	cmd := &cobra.Command{
		Use: "commit [flags] CONTAINER [NAME]", Short: "Make an image of a container", Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			if len(args) == 2 {
				o.Reference = args[1]
			}
			got, err := c.ContainerCommit(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			fmt.Fprintln(e.out, got.ID)
			return nil
		},
	}
	cmd.Flags().StringVarP(&o.Comment, "message", "m", "", "what it is")
	cmd.Flags().StringArrayVarP(&o.Changes, "change", "c", nil, "Dockerfile instruction to add, like 'CMD [\"serve\"]'")
	cmd.Flags().StringVarP(&o.Author, "author", "a", "", "who made it")
	return cmd
}
