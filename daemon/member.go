// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/internal/version"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

// openMember joins the cluster at --server and follows what a node may see of it. What the cluster knows better than this
// machine's flags (its address ranges, its domain) is set in cfg.
func openMember(ctx context.Context, g *errgroup.Group, cfg *Config, tell notifier, log *slog.Logger) (*plane, error) {
	m, err := openMembership(ctx, *cfg, tell, log.With("component", "membership"))
	if err != nil {
		return nil, err
	}
	joined := m.now.Load().Joined
	cfg.ClusterCIDR, cfg.ServiceCIDR, cfg.ClusterDomain = joined.ClusterCIDR, joined.ServiceCIDR, joined.ClusterDomain
	identity, err := m.clientTLS()
	if err != nil {
		return nil, err
	}
	doer, err := client.NewHTTP(client.Config{Server: cfg.Server, TLS: identity, UserAgent: "knarrd/" + version.Version})
	if err != nil {
		return nil, err
	}
	source := client.NewListWatch(doer, []client.Selection{
		{Type: kinds.For[corev1.Pod](), Fields: "spec.nodeName=" + cfg.NodeName},
		{Type: kinds.For[corev1.Node]()},
		{Type: kinds.For[corev1.Service]()},
		{Type: kinds.For[discoveryv1.EndpointSlice]()},
		{Type: kinds.For[corev1.ConfigMap](), Single: true},
		{Type: kinds.For[corev1.Secret](), Single: true},
	}, log)
	c := cache.New(source, []*kinds.Type{
		kinds.For[corev1.Pod](), kinds.For[corev1.Node](), kinds.For[corev1.Service](), kinds.For[discoveryv1.EndpointSlice](),
		kinds.For[corev1.ConfigMap](), kinds.For[corev1.Secret](),
	}, cache.Options{}, log)
	g.Go(func() error { return c.Run(ctx) })
	g.Go(func() error { return m.run(ctx) })
	refs := references{source, c}
	g.Go(func() error { return refs.run(ctx) })
	return &plane{
		reader: c, as: func(auth.User) client.Doer { return doer },
		wait:    func(ctx context.Context) error { return wait(ctx, c.Ready()) },
		serving: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return m.now.Load().serving, nil },
		clients: identity.RootCAs,
		follow:  refs.follow,
	}, nil
}

// references keeps what this node's pods refer to in the cache, and nothing else of its kinds.
type references struct {
	source *client.ListWatch
	cache  *cache.Cache
}

// followWithin bounds how long a pod waits for what it refers to: then its start says what is missing.
const followWithin = 10 * time.Second

func (r references) follow(ctx context.Context, pod *corev1.Pod) error {
	ctx, cancel := context.WithTimeout(ctx, followWithin)
	defer cancel()
	return r.source.Follow(ctx, objects(pod)...)
}

func objects(pod *corev1.Pod) []client.Object {
	var out []client.Object
	for resource, name := range kinds.References(pod) {
		t := kinds.For[corev1.ConfigMap]()
		if resource == kinds.For[corev1.Secret]().Plural {
			t = kinds.For[corev1.Secret]()
		}
		out = append(out, client.Object{Type: t, Namespace: pod.Namespace, Name: name})
	}
	return out
}

// run lets go of what no pod refers to any more.
func (r references) run(ctx context.Context) error {
	pods := kinds.For[corev1.Pod]()
	for ctx.Err() == nil {
		from := r.cache.Snapshot().RevisionOf(pods)
		for c, err := range r.cache.Watch(ctx, pods, from) {
			if err != nil {
				break // behind: the newest state is looked at next
			}
			if c.New == nil && c.Old != nil {
				r.prune()
			}
		}
		if ctx.Err() == nil {
			r.prune()
		}
	}
	return nil
}

func (r references) prune() {
	used := map[client.Object]bool{}
	for pod := range cache.List[corev1.Pod](r.cache.Snapshot(), "") {
		for _, o := range objects(pod) {
			used[o] = true
		}
	}
	r.source.Keep(func(o client.Object) bool { return used[o] })
}

// podAddresses is the cluster's pod range as this instance knows it, joined or not.
func (c *Config) podAddresses() netip.Prefix {
	m := membership{path: filepath.Join(c.DataDir, "membership.json")}
	if kept, err := m.read(); err == nil {
		return kept.Joined.ClusterCIDR
	}
	return c.ClusterCIDR
}
