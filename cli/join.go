// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/knarr/knarr/internal/atomicfile"
)

// joined is where a node keeps what it was told, so that `knarr join` alone starts it again. It holds the token, which on
// a command line everybody could read.
func (i *instance) joined() string { return filepath.Join(i.dataDir, "agent.yaml") }

func (e *env) join() *cobra.Command {
	var i instance
	var server, token string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "join [flags] [-- FLAGS OF knarrd]", Short: "Make this machine a node of a cluster elsewhere",
		Long: "Make this machine a node of a cluster elsewhere. On the cluster's server, `knarr token` prints what to type here.\n" +
			"Without --server and --token a node that joined before is started again.",
		Example: "  knarr join --server https://192.168.7.1:6443 --token knarr.4b1d….7xk…\n  knarr join",
	}
	i.addFlags(cmd.Flags())
	cmd.Flags().StringVar(&server, "server", "", "URL of the cluster's API server")
	cmd.Flags().StringVar(&token, "token", "", "what `knarr token` prints there; - reads it from standard input")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait until the node is ready")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := e.keepJoined(i, server, token); err != nil {
			return err
		}
		return e.bring(cmd.Context(), i, "agent", append([]string{"--config", i.joined()}, args...), timeout)
	}
	return cmd
}

// keepJoined writes down where to join, or checks that this was done before.
func (e *env) keepJoined(i instance, server, token string) error {
	if server == "" && token == "" {
		if _, err := os.Stat(i.joined()); err != nil {
			return fmt.Errorf("this machine joined no cluster yet: say --server and --token, as `knarr token` prints them on the server (%w)", err)
		}
		return nil
	}
	if server == "" || token == "" {
		return errors.New("--server and --token belong together; `knarr token` on the server prints both")
	}
	if token == "-" {
		line := make([]byte, 512)
		n, err := e.in.Read(line)
		if err != nil {
			return fmt.Errorf("read the token from standard input: %w", err)
		}
		token = string(bytes.TrimSpace(line[:n]))
	}
	if err := os.MkdirAll(i.dataDir, 0o711); err != nil {
		return err
	}
	data, err := yaml.Marshal(map[string]string{"server": server, "token": token})
	if err != nil {
		return err
	}
	return atomicfile.Write(i.joined(), data, 0o600)
}

func (e *env) token() *cobra.Command {
	var i instance
	var quiet bool
	cmd := &cobra.Command{
		Use: "token", Short: "Show how another machine joins this cluster", Args: cobra.NoArgs,
		Long: "Show the command that makes another machine a node of this cluster. Who has the token can become a node; remove\n" +
			"<data-dir>/pki/join-token to end its validity: the next start of the daemon makes a new one.",
	}
	i.addFlags(cmd.Flags())
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the token alone")
	cmd.RunE = func(*cobra.Command, []string) error {
		data, err := os.ReadFile(filepath.Join(i.dataDir, "pki", "join-token"))
		if err != nil {
			return fmt.Errorf("no cluster has its server here (start one with: knarr up): %w", err)
		}
		token := string(bytes.TrimSpace(data))
		if quiet {
			fmt.Fprintln(e.out, token)
			return nil
		}
		at, err := i.reachedAt()
		if err != nil {
			return err
		}
		fmt.Fprintf(e.out, "knarr join --server %s --token %s\n", at, token)
		return nil
	}
	return cmd
}

// reachedAt is the API server's URL as other machines see it: the port of the kubeconfig at this machine's address.
func (i *instance) reachedAt() (string, error) {
	data, err := os.ReadFile(i.kubeconfig())
	if err != nil {
		return "", err
	}
	var k struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
			} `json:"cluster"`
		} `json:"clusters"`
	}
	if err := yaml.Unmarshal(data, &k); err != nil || len(k.Clusters) == 0 {
		return "", fmt.Errorf("%s names no server", i.kubeconfig())
	}
	u, err := url.Parse(k.Clusters[0].Cluster.Server)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
		return u.String(), nil
	}
	// Connecting a datagram socket sends nothing; it tells which address the default route would use.
	c, err := net.Dial("udp4", "192.0.2.1:9")
	if err != nil {
		return u.String(), nil
	}
	defer c.Close()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return "", err
	}
	u.Host = net.JoinHostPort(host, u.Port())
	return u.String(), nil
}
