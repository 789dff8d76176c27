// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func (e *env) images(use string) *cobra.Command {
	var o client.ImageListOptions
	var quiet, digests, noTrunc bool
	var format string
	var filter []string
	cmd := &cobra.Command{
		Use: use + " [flags] [NAME]", Short: "List images", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			for _, a := range args {
				filter = append(filter, "reference="+a)
			}
			if o.Filters, err = parseFilters(filter); err != nil {
				return err
			}
			list, err := c.ImageList(cmd.Context(), o)
			if err != nil {
				return err
			}
			var lines []imageLine
			for _, img := range list.Items {
				lines = append(lines, imageLines(img, noTrunc)...)
			}
			if format != "" {
				return printEach(e.out, format, lines)
			}
			w := tabwriter.NewWriter(e.out, 0, 0, 3, ' ', 0)
			head := "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE"
			if digests {
				head = "REPOSITORY\tTAG\tDIGEST\tIMAGE ID\tCREATED\tSIZE"
			}
			if !quiet {
				fmt.Fprintln(w, head)
			}
			said := map[string]bool{}
			for _, l := range lines {
				switch {
				case quiet && said[l.ID]:
				case quiet:
					fmt.Fprintln(w, l.ID)
				case digests:
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.Repository, l.Tag, l.Digest, l.ID, l.CreatedSince, l.Size)
				default:
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", l.Repository, l.Tag, l.ID, l.CreatedSince, l.Size)
				}
				said[l.ID] = true
			}
			return w.Flush()
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.All, "all", "a", false, "those of build steps too")
	f.BoolVarP(&quiet, "quiet", "q", false, "only IDs")
	f.BoolVar(&digests, "digests", false, "show the digests of manifests")
	f.BoolVar(&noTrunc, "no-trunc", false, "do not shorten IDs")
	f.StringArrayVarP(&filter, "filter", "f", nil, "NAME=VALUE: reference, dangling, label, before, since, until")
	f.StringVar(&format, "format", "", "json, or a Go template")
	return cmd
}

// imageLine is one line of knarr images, an image by one of its names, with the fields of the docker client's templates.
type imageLine struct {
	Repository, Tag, Digest       string
	ID                            string
	CreatedSince, CreatedAt, Size string
}

// imageLines has a line for each tag, and one for each repository that the image has only a digest in.
func imageLines(img image.Summary, noTrunc bool) []imageLine {
	created := time.Unix(img.Created, 0)
	base := imageLine{Repository: "<none>", Tag: "<none>", Digest: "<none>", ID: img.ID, CreatedSince: ago(created),
		CreatedAt: created.Format("2006-01-02 15:04:05 -0700 MST"), Size: units.HumanSizeWithPrecision(float64(img.Size), 3)}
	if !noTrunc {
		base.ID = strings.TrimPrefix(img.ID, "sha256:")[:12]
	}
	digests := map[string]string{}
	for _, rd := range img.RepoDigests {
		repo, d, _ := strings.Cut(rd, "@")
		digests[repo] = d
	}
	var out []imageLine
	named := map[string]bool{}
	for _, n := range img.RepoTags {
		l, i := base, strings.LastIndex(n, ":")
		l.Repository, l.Tag, l.Digest = n[:i], n[i+1:], cmp.Or(digests[n[:i]], "<none>")
		named[l.Repository] = true
		out = append(out, l)
	}
	for _, repo := range slices.Sorted(maps.Keys(digests)) {
		if !named[repo] {
			l := base
			l.Repository, l.Digest = repo, digests[repo]
			out = append(out, l)
		}
	}
	if len(out) == 0 {
		return []imageLine{base}
	}
	return out
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
	var path, platform string
	var quiet bool
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
			o := []client.ImageLoadOption{client.ImageLoadWithQuiet(quiet)}
			if platform != "" {
				p, err := parsePlatform(platform)
				if err != nil {
					return err
				}
				o = append(o, client.ImageLoadWithPlatforms(p))
			}
			r, err := c.ImageLoad(cmd.Context(), in, o...)
			if err != nil {
				return err
			}
			defer r.Close()
			show := *e
			show.err = e.out // what was loaded is the result
			return show.show(r, nil)
		},
	}
	cmd.Flags().StringVarP(&path, "input", "i", "", "file (default stdin)")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print only what was loaded")
	cmd.Flags().StringVar(&platform, "platform", "", "load the image for this platform: OS/ARCHITECTURE[/VARIANT]")
	return cmd
}

func (e *env) save() *cobra.Command {
	var path, platform string
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
			var o []client.ImageSaveOption
			if platform != "" {
				p, err := parsePlatform(platform)
				if err != nil {
					return errors.Join(err, closeOut())
				}
				o = append(o, client.ImageSaveWithPlatforms(p))
			}
			r, err := c.ImageSave(cmd.Context(), args, o...)
			if err != nil {
				return errors.Join(err, closeOut())
			}
			defer r.Close()
			_, err = io.Copy(out, r)
			return errors.Join(err, closeOut())
		},
	}
	cmd.Flags().StringVarP(&path, "output", "o", "", "file (default stdout)")
	cmd.Flags().StringVar(&platform, "platform", "", "refuse images that are not for this platform: OS/ARCHITECTURE[/VARIANT]")
	return cmd
}

func (e *env) rmi(use string) *cobra.Command {
	var force, noPrune bool
	cmd := &cobra.Command{
		Use: use + " [-f] IMAGE…", Short: "Remove images", Args: atLeast(1, "image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.engine()
			if err != nil {
				return err
			}
			var failed []error
			for _, ref := range args {
				got, err := c.ImageRemove(cmd.Context(), ref, client.ImageRemoveOptions{Force: force, PruneChildren: !noPrune})
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
	cmd.Flags().BoolVar(&noPrune, "no-prune", false, "keep the images of build steps that led to it")
	return cmd
}

func (e *env) history() *cobra.Command {
	var quiet, noTrunc bool
	var format string
	var p past
	human := true
	cmd := &cobra.Command{
		Use: "history [flags] IMAGE | KIND/NAME", Short: "Show the steps that made an image, or the past of an object of the cluster",
		Long: "Show the steps that made an image, newest first; or every revision of an object of the cluster that is still known, newest\n" +
			"last: when, who, by which program, and what changed. knarr undo goes back to one.\n" +
			"KIND/NAME is an object when the cluster has a kind of that name, and with any of -n, -p, --revision; all else is an image.\n" +
			"For an image whose name begins like a kind, write docker.io/KIND/NAME.",
		Example: "  knarr history web\n  knarr history deployment/web -n prod --diff\n  knarr history configmap/settings --revision 1234",
		Args:    exactly("an image or KIND/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if p.isObject(cmd, args[0]) {
				return e.objectHistory(cmd, &p, args[0])
			}
			c, err := e.engine()
			if err != nil {
				return err
			}
			got, err := c.ImageHistory(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if format != "" {
				return printEach(e.out, format, got.Items)
			}
			w := tabwriter.NewWriter(e.out, 0, 0, 3, ' ', 0)
			if !quiet {
				fmt.Fprintln(w, "IMAGE\tCREATED\tCREATED BY\tSIZE\tCOMMENT")
			}
			for _, h := range got.Items {
				id, by, size := h.ID, strings.ReplaceAll(h.CreatedBy, "\t", " "), units.HumanSizeWithPrecision(float64(h.Size), 3)
				if !noTrunc {
					id = strings.TrimPrefix(id, "sha256:")
					id = id[:min(12, len(id))]
					if r := []rune(by); len(r) > 45 {
						by = string(r[:44]) + "…"
					}
				}
				if h.ID == "<missing>" {
					id = h.ID
				}
				if quiet {
					fmt.Fprintln(w, id)
					continue
				}
				when := ago(time.Unix(h.Created, 0))
				if !human {
					when, size = time.Unix(h.Created, 0).UTC().Format(time.RFC3339), fmt.Sprint(h.Size)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", id, when, by, size, h.Comment)
			}
			return w.Flush()
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&quiet, "quiet", "q", false, "image: only IDs")
	f.BoolVar(&noTrunc, "no-trunc", false, "image: do not shorten")
	f.BoolVar(&human, "human", true, "image: sizes and dates for people")
	f.StringVar(&format, "format", "", "image: json, or a Go template")
	p.addFlags(f)
	f.BoolVarP(&p.diff, "diff", "p", false, "object: show what each revision changed")
	f.Int64Var(&p.revision, "revision", 0, "object: print it as it was at this revision")
	f.IntVar(&p.limit, "limit", 0, "object: only so many of the newest revisions")
	f.StringVarP(&p.output, "output", "o", "", "object: json or yaml")
	return cmd
}
