// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func (e *env) fsck() *cobra.Command {
	var i instance
	var deep bool
	cmd := &cobra.Command{
		Use: "fsck [flags]", Short: "Check the engine's state: layers, mounts, cgroups, namespaces, rules", Args: cobra.NoArgs,
		Long: "Check that all the engine keeps fits together: images and layers, containers, mounts, cgroups, namespaces, links, rules, volumes.\n" +
			"The daemon is asked; if none runs, the state of the instance is opened, which first finishes what a crash left, and then checked.\n" +
			"Nothing is repaired. Exit code 1 when something is wrong.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			problems, err := e.askFsck(cmd.Context(), deep)
			if client.IsErrConnectionFailed(err) {
				return e.fsckOffline(i, deep)
			}
			if err != nil {
				return err
			}
			for _, p := range problems {
				fmt.Fprintln(e.out, p)
			}
			if len(problems) > 0 {
				return exitError{1, fmt.Sprintf("fsck: %d problems", len(problems))}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&deep, "deep", false, "read all content again and compare digests")
	i.addFlags(cmd.Flags())
	return cmd
}

// askFsck asks the daemon, by a route that is not Docker's.
func (e *env) askFsck(ctx context.Context, deep bool) ([]string, error) {
	c, err := e.engine()
	if err != nil {
		return nil, err
	}
	if _, err := c.Ping(ctx, client.PingOptions{}); err != nil {
		return nil, err
	}
	dial := c.Dialer()
	web := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://engine/knarr/fsck?deep=%t", deep), nil)
	if err != nil {
		return nil, err
	}
	resp, err := web.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Problems []string
		Message  string
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, fmt.Errorf("the daemon's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(answer.Message)
	}
	return answer.Problems, nil
}

func (e *env) fsckOffline(i instance, deep bool) error {
	if _, err := os.Stat(i.dataDir); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no daemon answers at %s, and there is no instance in %s", e.address(), i.dataDir)
	}
	binary, err := daemonBinary()
	if err != nil {
		return err
	}
	c := exec.Command(binary, append([]string{"fsck", "--log-level", "warn", fmt.Sprintf("--deep=%t", deep)}, i.args()...)...)
	c.Stdout, c.Stderr = e.out, e.err
	err = c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) { // it has said why
		return exitError{code: exit.ExitCode()}
	}
	return err
}
