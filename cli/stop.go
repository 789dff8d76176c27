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
	"net/url"
	"strconv"

	"github.com/moby/moby/api/types/common"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/knarr/knarr/internal/version"
)

func (e *env) stop() *cobra.Command {
	return e.stopping("stop", "Stop containers: the stop signal, then SIGKILL")
}

func (e *env) restart() *cobra.Command {
	return e.stopping("restart", "Stop and start containers")
}

// stopping is stop and restart, which differ in nothing that a client does.
func (e *env) stopping(verb, short string) *cobra.Command {
	grace, signal, anyway := -2, "", false
	cmd := e.each(verb+" [flags] CONTAINER…", short, func(ctx context.Context, c *client.Client, ref string) error {
		q := url.Values{}
		if grace != -2 {
			q.Set("t", strconv.Itoa(grace))
		}
		if signal != "" {
			q.Set("signal", signal)
		}
		if anyway {
			q.Set("wait-anyway", "1")
		}
		note, err := post(ctx, c, "/containers/"+url.PathEscape(ref)+"/"+verb+"?"+q.Encode())
		if note != "" {
			fmt.Fprintln(e.err, "note:", note)
		}
		return err
	})
	f := cmd.Flags()
	f.IntVarP(&grace, "time", "t", -2, "seconds before SIGKILL, -1 for ever (default: the container's own, 10)")
	f.IntVar(&grace, "timeout", -2, "same as --time")
	f.Lookup("time").DefValue, f.Lookup("timeout").DefValue = "0", "0"
	f.Lookup("timeout").Hidden = true
	f.StringVarP(&signal, "signal", "s", "", "instead of the container's stop signal")
	f.BoolVar(&anyway, "wait-anyway", false, "wait even for a PID 1 that can never receive the signal")
	return cmd
}

// post asks for what Docker's client cannot: parameters and an answer's header that are ours.
func post(ctx context.Context, c *client.Client, path string) (note string, err error) {
	dial := c.Dialer()
	h := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://engine/v"+version.DockerAPI+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := h.Do(req)
	if op := new(net.OpError); errors.As(err, &op) && op.Op == "dial" { // let the client say so in the words of all commands
		_, err = c.Ping(ctx, client.PingOptions{})
	}
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode < http.StatusBadRequest {
		return resp.Header.Get("Knarr-Note"), nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	var said common.ErrorResponse
	if json.Unmarshal(body, &said) != nil || said.Message == "" {
		return "", fmt.Errorf("the daemon answers %s", resp.Status)
	}
	return "", errors.New(said.Message)
}
