// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pmezard/go-difflib/difflib"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// past is what `knarr history KIND/NAME` was told.
type past struct {
	instance
	namespace string
	diff      bool
	revision  int64
	limit     int
	output    string
}

func (p *past) addFlags(f *pflag.FlagSet) {
	f.StringVarP(&p.namespace, "namespace", "n", "default", "namespace of the object")
	f.StringVar(&p.dataDir, "data-dir", "/var/lib/knarr", "data folder of the instance whose cluster is meant (default: that of KUBECONFIG)")
}

// historyEntry is one revision as the API server tells of it.
type historyEntry struct {
	Revision            int64
	Verb, User, Manager string
	Time                time.Time
	Fault               string
	Object              map[string]any
}

type historyList struct {
	Oldest  int64
	Skipped int
	Items   []historyEntry
}

// isObject says whether the argument of `knarr history` is an object and not an image: KIND/NAME where the cluster has a kind
// of that name. Without a cluster everything is an image.
func (p *past) isObject(cmd *cobra.Command, ref string) bool {
	if cmd.Flags().Changed("namespace") || p.diff || p.revision != 0 {
		return true
	}
	if strings.Count(ref, "/") != 1 || strings.ContainsAny(ref, "@") {
		return false
	}
	api, err := p.cluster(cmd.Flags().Changed("data-dir"))
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
	defer cancel()
	_, err = api.find(ctx, ref, p.namespace)
	return err == nil
}

func (e *env) objectHistory(cmd *cobra.Command, p *past, ref string) error {
	ctx := cmd.Context()
	api, err := p.cluster(cmd.Flags().Changed("data-dir"))
	if err != nil {
		return err
	}
	o, err := api.find(ctx, ref, p.namespace)
	if err != nil {
		return err
	}
	var h historyList
	path := "/knarr/v1/history" + o.path
	if p.limit > 0 && !p.diff {
		path += "?limit=" + strconv.Itoa(p.limit)
	}
	if err := api.do(ctx, http.MethodGet, path, "application/json", &h); err != nil {
		return err
	}
	switch {
	case p.revision != 0:
		return e.printRevision(&h, p.revision, p.output)
	case p.output != "":
		return e.printAs(h, p.output)
	}
	return e.printHistory(&h, p)
}

func (e *env) printAs(v any, format string) error {
	switch format {
	case "json":
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintln(e.out, string(data))
	case "", "yaml":
		data, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		fmt.Fprint(e.out, string(data))
	default:
		return usageError{fmt.Errorf("-o %s: want json or yaml", format)}
	}
	return nil
}

func (e *env) printRevision(h *historyList, rev int64, format string) error {
	for _, x := range h.Items {
		if x.Revision != rev {
			continue
		}
		if x.Object == nil {
			return fmt.Errorf("at revision %d there is no object: %s %s", rev, x.Verb, x.Fault)
		}
		return e.printAs(x.Object, format)
	}
	return fmt.Errorf("the object has no revision %d; its history lists those it has", rev)
}

// printHistory writes a line for each revision, newest last as in a log, and with --diff what it changed.
func (e *env) printHistory(h *historyList, p *past) error {
	if h.Skipped > 0 {
		fmt.Fprintf(e.err, "%d older revisions are left out; see --limit\n", h.Skipped)
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 3, ' ', 0)
	if !p.diff {
		fmt.Fprintln(w, "REVISION\tWHEN\tVERB\tUSER\tMANAGER\tCHANGED")
	}
	var before map[string]any
	for i, x := range h.Items {
		when, user, manager := "-", x.User, x.Manager
		if !x.Time.IsZero() {
			when = ago(x.Time)
		}
		if user == "" {
			user = "-"
		}
		if manager == "" {
			manager = "-"
		}
		if p.diff {
			if p.limit == 0 || i >= len(h.Items)-p.limit {
				fmt.Fprintf(e.out, "revision %d, %s by %s (%s), %s\n", x.Revision, x.Verb, user, manager, when)
				if err := e.printDiff(before, x.Object); err != nil {
					return err
				}
			}
		} else {
			what := strings.Join(changedPaths(before, x.Object), ", ")
			if x.Verb == "create" || x.Verb == "delete" || x.Verb == "found" {
				what = ""
			}
			if x.Fault != "" {
				what = x.Fault
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", x.Revision, when, x.Verb, user, manager, what)
		}
		before = x.Object
	}
	return w.Flush()
}

// plain is an object without what the server keeps for itself, which would hide the change.
func plain(o map[string]any) map[string]any {
	if o == nil {
		return nil
	}
	out := map[string]any{}
	for k, v := range o {
		out[k] = v
	}
	if m, ok := o["metadata"].(map[string]any); ok {
		meta := map[string]any{}
		for k, v := range m {
			if k != "managedFields" && k != "resourceVersion" && k != "generation" {
				meta[k] = v
			}
		}
		out["metadata"] = meta
	}
	return out
}

func (e *env) printDiff(before, after map[string]any) error {
	var text [2]string
	for i, o := range []map[string]any{plain(before), plain(after)} {
		if o == nil {
			continue
		}
		data, err := yaml.Marshal(o)
		if err != nil {
			return err
		}
		text[i] = string(data)
	}
	diff, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{A: slices.Collect(strings.Lines(text[0])), B: slices.Collect(strings.Lines(text[1])), Context: 2})
	for line := range strings.Lines(diff) {
		fmt.Fprint(e.out, "    ", line)
	}
	fmt.Fprintln(e.out)
	return err
}

// changedPaths lists what differs, two fields deep and at most four of them: a hint, --diff says all.
func changedPaths(before, after map[string]any) []string {
	var out []string
	a, b := plain(before), plain(after)
	for _, k := range unionKeys(a, b) {
		x, isMap := a[k].(map[string]any)
		y, alsoMap := b[k].(map[string]any)
		if !isMap || !alsoMap {
			if !same(a[k], b[k]) {
				out = append(out, k)
			}
			continue
		}
		for _, sub := range unionKeys(x, y) {
			if !same(x[sub], y[sub]) {
				out = append(out, k+"."+sub)
			}
		}
	}
	if len(out) > 4 {
		out = append(out[:4], "…")
	}
	return out
}

func unionKeys(a, b map[string]any) []string {
	all := map[string]string{}
	for k := range a {
		all[k] = ""
	}
	for k := range b {
		all[k] = ""
	}
	return sortedKeys(all)
}

func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

func (e *env) undo() *cobra.Command {
	var p past
	var to int64
	var dry bool
	cmd := &cobra.Command{
		Use: "undo [flags] KIND/NAME", Short: "Give an object of the cluster back what it was, deleted ones too", Args: exactly("KIND/NAME"),
		Long: "Give an object of the cluster the content it had before its last change, or at --to-revision; make it anew when it was deleted.\n" +
			"It is an ordinary write: the rights to get and to update (or create) the object are needed, and admission and validation are\n" +
			"as for any. Status is not restored, and an object made anew has a new UID; owners that are gone are left out.\n" +
			"How far back it goes: knarr history KIND/NAME. What is kept: knarrd --history.",
		Example: "  knarr undo deployment/web\n  knarr undo configmap/settings -n prod --to-revision 1234 --dry-run",
	}
	p.addFlags(cmd.Flags())
	cmd.Flags().Int64Var(&to, "to-revision", 0, "a revision that knarr history lists (default: the one before the last change)")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "show what would change, and change nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		api, err := p.cluster(cmd.Flags().Changed("data-dir"))
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("no cluster: %w", err)
		}
		if err != nil {
			return err
		}
		o, err := api.find(cmd.Context(), args[0], p.namespace)
		if err != nil {
			return err
		}
		q := url.Values{"fieldManager": {"knarr-undo"}}
		if to != 0 {
			q.Set("to", strconv.FormatInt(to, 10))
		}
		var now map[string]any
		if dry {
			q.Set("dryRun", "All")
			if err := api.do(cmd.Context(), http.MethodGet, o.path, "application/json", &now); err != nil {
				now = nil // it was deleted; if not, the undo says what is wrong
			}
		}
		var then map[string]any
		header, err := api.doHeader(cmd.Context(), http.MethodPost, "/knarr/v1/undo"+o.path+"?"+q.Encode(), "application/json", &then)
		if err != nil {
			return err
		}
		for _, line := range header.Values("Warning") {
			fmt.Fprintln(e.err, "warning:", strings.TrimPrefix(line, "299 - "))
		}
		if dry {
			fmt.Fprintf(e.out, "%s would be as at revision %s:\n", o.name, header.Get("Knarr-Restored-Revision"))
			return e.printDiff(now, then)
		}
		fmt.Fprintf(e.out, "%s is as at revision %s\n", o.name, header.Get("Knarr-Restored-Revision"))
		return nil
	}
	return cmd
}
