// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

func (e *env) status() *cobra.Command {
	var i instance
	cmd := &cobra.Command{
		Use: "status", Short: "Say what runs and how it is; exit 1 when something is not well", Args: cobra.NoArgs,
	}
	i.addFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		pid, err := i.pid()
		if err != nil {
			return err
		}
		if pid == 0 {
			return fmt.Errorf("no daemon of %s runs; start it with: knarr up", i.name)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
		defer cancel()
		fmt.Fprintf(e.out, "daemon    pid %d, data in %s\n", pid, i.dataDir)
		return errors.Join(e.engineStatus(ctx, i), e.clusterStatus(ctx, i))
	}
	return cmd
}

func (e *env) engineStatus(ctx context.Context, i instance) error {
	at := *e
	at.host = i.socket()
	c, err := at.engine()
	if err != nil {
		return err
	}
	got, err := c.Info(ctx, client.InfoOptions{})
	if err != nil {
		fmt.Fprintf(e.out, "engine    does not answer at %s\n", i.socket())
		return err
	}
	fmt.Fprintf(e.out, "engine    %s; %d containers, %d running; %d images\n", i.socket(), got.Info.Containers, got.Info.ContainersRunning, got.Info.Images)
	return nil
}

// clusterStatus asks the API server with the admin's credentials; an instance without a kubeconfig has no cluster.
func (e *env) clusterStatus(ctx context.Context, i instance) error {
	api, err := openKubeconfig(i.kubeconfig())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := api.get(ctx, "/readyz"); err != nil {
		fmt.Fprintf(e.out, "cluster   not ready at %s\n", api.server)
		return err
	}
	fmt.Fprintf(e.out, "cluster   %s; kubeconfig %s\n", api.server, i.kubeconfig())
	var nodes struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Conditions []struct{ Type, Status, Message string }
			}
		}
	}
	if err := api.read(ctx, "/api/v1/nodes", &nodes); err != nil {
		return err
	}
	var sick []error
	for _, n := range nodes.Items {
		state := "not ready"
		for _, c := range n.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" {
				state = "ready"
			}
		}
		fmt.Fprintf(e.out, "node      %s: %s\n", n.Metadata.Name, state)
		if state != "ready" {
			sick = append(sick, fmt.Errorf("node %s is not ready; see: knarr kubectl describe node %s", n.Metadata.Name, n.Metadata.Name))
		}
	}
	var pods struct {
		Items []struct{ Status struct{ Phase string } }
	}
	if err := api.read(ctx, "/api/v1/pods", &pods); err != nil {
		return err
	}
	count := map[string]string{}
	n := map[string]int{}
	for _, p := range pods.Items {
		n[p.Status.Phase]++
		count[p.Status.Phase] = fmt.Sprintf("%d %s", n[p.Status.Phase], p.Status.Phase)
	}
	var parts []string
	for _, phase := range sortedKeys(count) {
		parts = append(parts, count[phase])
	}
	if len(parts) == 0 {
		parts = []string{"none"}
	}
	fmt.Fprintf(e.out, "pods      %s\n", strings.Join(parts, ", "))
	return errors.Join(sick...)
}

// apiClient reads the Kubernetes API as the kubeconfig's user; for more there is kubectl.
type apiClient struct {
	server string
	http   *http.Client
}

func openKubeconfig(path string) (*apiClient, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var k struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
				CA     []byte `json:"certificate-authority-data"`
			} `json:"cluster"`
		} `json:"clusters"`
		Users []struct {
			User struct {
				Cert []byte `json:"client-certificate-data"`
				Key  []byte `json:"client-key-data"`
			} `json:"user"`
		} `json:"users"`
	}
	if err := yaml.Unmarshal(data, &k); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(k.Clusters) == 0 || len(k.Users) == 0 {
		return nil, fmt.Errorf("%s names no cluster or no user", path)
	}
	cert, err := tls.X509KeyPair(k.Users[0].User.Cert, k.Users[0].User.Key)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(k.Clusters[0].Cluster.CA)
	return &apiClient{k.Clusters[0].Cluster.Server, &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool},
	}}}, nil
}

func (a *apiClient) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.server+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %s: %s", path, resp.Status, body)
	}
	return body, nil
}

func (a *apiClient) read(ctx context.Context, path string, into any) error {
	body, err := a.get(ctx, path)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}
