// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func (e *env) images() *cobra.Command {
	var o client.ImageListOptions
	var quiet bool
	var format string
	var filter []string
	cmd := &cobra.Command{
		Use: "images [flags]", Short: "List images", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			if o.Filters, err = parseFilters(filter); err != nil {
				return err
			}
			list, err := c.ImageList(cmd.Context(), o)
			if err != nil {
				return err
			}
			if format != "" {
				return printEach(e.out, format, list.Items)
			}
			w := tabwriter.NewWriter(e.out, 0, 0, 3, ' ', 0)
			if !quiet {
				fmt.Fprintln(w, "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE")
			}
			for _, img := range list.Items {
				id := strings.TrimPrefix(img.ID, "sha256:")[:12]
				if quiet {
					fmt.Fprintln(w, id)
					continue
				}
				names := img.RepoTags
				if len(names) == 0 {
					names = []string{"<none>:<none>"}
				}
				for _, n := range names {
					i := strings.LastIndex(n, ":")
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", n[:i], n[i+1:], id, ago(time.Unix(img.Created, 0)), units.HumanSizeWithPrecision(float64(img.Size), 3))
				}
			}
			return w.Flush()
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.All, "all", "a", false, "those of build steps too")
	f.BoolVarP(&quiet, "quiet", "q", false, "only IDs")
	f.StringArrayVarP(&filter, "filter", "f", nil, "NAME=VALUE: reference, dangling, label")
	f.StringVar(&format, "format", "", "json, or a Go template")
	return cmd
}

// show prints a stream of progress. On a terminal the line of each layer is drawn in place; elsewhere only what changes.
func (e *env) show(r io.Reader, onAux func(json.RawMessage)) error {
	f, ok := e.err.(*os.File)
	live := ok && term.IsTerminal(int(f.Fd()))
	var ids []string
	said := map[string]string{}
	dec := json.NewDecoder(r)
	for {
		var m jsonstream.Message
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("the daemon's answer broke off: %w", err)
		}
		switch {
		case m.Error != nil:
			return errors.New(m.Error.Message)
		case m.Aux != nil:
			if onAux != nil {
				onAux(*m.Aux)
			}
		case m.Stream != "":
			io.WriteString(e.err, m.Stream)
		case m.ID == "":
			fmt.Fprintln(e.err, m.Status)
		default:
			text := m.ID + ": " + m.Status
			if live && m.Progress != nil && m.Progress.Total > 0 {
				text += fmt.Sprintf(" %s/%s", units.HumanSize(float64(m.Progress.Current)), units.HumanSize(float64(m.Progress.Total)))
			}
			if said[m.ID] == text {
				continue
			}
			if _, known := said[m.ID]; !known {
				ids = append(ids, m.ID)
			} else if live {
				drawAt(e.err, ids, m.ID, text)
				said[m.ID] = text
				continue
			}
			said[m.ID] = text
			fmt.Fprintln(e.err, text)
		}
	}
}

// drawAt rewrites the line of id, which stands as many lines up as there are ids after it.
func drawAt(w io.Writer, ids []string, id, text string) {
	up := 0
	for i := len(ids) - 1; i >= 0; i-- {
		up++
		if ids[i] == id {
			break
		}
	}
	fmt.Fprintf(w, "\x1b[%dA\r\x1b[2K%s\x1b[%dB\r", up, text, up)
}

func (e *env) pullImage(ctx context.Context, c *client.Client, ref string) error {
	r, err := c.ImagePull(ctx, ref, client.ImagePullOptions{})
	if err != nil {
		return err
	}
	defer r.Close()
	return e.show(r, nil)
}

func (e *env) pull() *cobra.Command {
	return &cobra.Command{
		Use: "pull IMAGE", Short: "Fetch an image from its registry", Args: exactly("an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			return e.pullImage(cmd.Context(), c, args[0])
		},
	}
}

func (e *env) push() *cobra.Command {
	return &cobra.Command{
		Use: "push IMAGE", Short: "Send an image to its registry", Args: exactly("an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			r, err := c.ImagePush(cmd.Context(), args[0], client.ImagePushOptions{})
			if err != nil {
				return err
			}
			defer r.Close()
			return e.show(r, nil)
		},
	}
}

func (e *env) tag() *cobra.Command {
	return &cobra.Command{
		Use: "tag IMAGE NAME", Short: "Give an image a further name", Args: exactly("an image", "a name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			_, err = c.ImageTag(cmd.Context(), client.ImageTagOptions{Source: args[0], Target: args[1]})
			return err
		},
	}
}

func (e *env) load() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "load [-i FILE]", Short: "Load images from a docker-archive or OCI-layout tar", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			in := e.in
			if path != "" {
				f, err := os.Open(path)
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			r, err := c.ImageLoad(cmd.Context(), in)
			if err != nil {
				return err
			}
			defer r.Close()
			return e.show(r, nil)
		},
	}
	cmd.Flags().StringVarP(&path, "input", "i", "", "file (default stdin)")
	return cmd
}

func (e *env) save() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "save [-o FILE] IMAGE…", Short: "Write images as a tar", Args: atLeast(1, "image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			out, closeOut, err := e.outputFile(path, "save")
			if err != nil {
				return err
			}
			c, err := e.engine()
			if err != nil {
				return err
			}
			r, err := c.ImageSave(cmd.Context(), args)
			if err != nil {
				return errors.Join(err, closeOut())
			}
			defer r.Close()
			_, err = io.Copy(out, r)
			return errors.Join(err, closeOut())
		},
	}
	cmd.Flags().StringVarP(&path, "output", "o", "", "file (default stdout)")
	return cmd
}

func (e *env) rmi() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "rmi [-f] IMAGE…", Short: "Remove images", Args: atLeast(1, "image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			var failed []error
			for _, ref := range args {
				got, err := c.ImageRemove(cmd.Context(), ref, client.ImageRemoveOptions{Force: force, PruneChildren: true})
				if err != nil {
					failed = append(failed, errors.New(e.explain(err)))
				}
				for _, r := range got.Items {
					if r.Untagged != "" {
						fmt.Fprintln(e.out, "Untagged:", r.Untagged)
					}
					if r.Deleted != "" {
						fmt.Fprintln(e.out, "Deleted:", r.Deleted)
					}
				}
			}
			return errors.Join(failed...)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also when it has several names or stopped containers")
	return cmd
}

func (e *env) history() *cobra.Command {
	return &cobra.Command{
		Use: "history IMAGE", Short: "Show the steps that made an image, newest first", Args: exactly("an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			got, err := c.ImageHistory(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(e.out, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "CREATED\tCREATED BY\tCOMMENT")
			for _, h := range got.Items {
				fmt.Fprintf(w, "%s\t%s\t%s\n", ago(time.Unix(h.Created, 0)), h.CreatedBy, h.Comment)
			}
			return w.Flush()
		},
	}
}
