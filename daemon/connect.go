// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/knarr/knarr/internal/version"
	"github.com/knarr/knarr/state/client"
)

// connect makes the client of a component whose API server is elsewhere: --server, with the credentials of --kubeconfig or
// --token. A kubeconfig is read the way every Kubernetes client reads it.
func connect(cfg Config) (*client.HTTP, error) {
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: cfg.Kubeconfig}
	override := &clientcmd.ConfigOverrides{}
	override.ClusterInfo.Server = cfg.Server
	override.AuthInfo.Token = cfg.Token
	rc, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, override).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read credentials for %s: %w", cfg.Server, err)
	}
	tls, err := rest.TLSConfigFor(rc)
	if err != nil {
		return nil, fmt.Errorf("read credentials for %s: %w", cfg.Server, err)
	}
	out := client.Config{Server: rc.Host, TLS: tls, UserAgent: "knarrd/" + version.Version}
	if rc.BearerToken != "" {
		out.Token = func() (string, error) { return rc.BearerToken, nil }
	}
	return client.NewHTTP(out)
}
