// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/knarr/knarr/apiserver"
	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/controllers"
	"github.com/knarr/knarr/controllers/certificates"
	"github.com/knarr/knarr/dns"
	"github.com/knarr/knarr/internal/atomicfile"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/kubelet"
	"github.com/knarr/knarr/kubelet/route"
	"github.com/knarr/knarr/kubelet/volume"
	"github.com/knarr/knarr/proxy"
	"github.com/knarr/knarr/scheduler"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
	"github.com/knarr/knarr/state/events"
	"github.com/knarr/knarr/state/reconcile"
	"github.com/knarr/knarr/state/store"
)

// gcPercent trades a little CPU for memory: with 30 pods the daemon holds 98 MB instead of 117, and a Deployment of 30 takes
// 1.29 s instead of 1.18 (make bench). GOGC in the environment wins.
const gcPercent = 50

// Run plays cfg's roles until ctx ends; it returns when all it started has ended. Containers go on. cfg is complete.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	began := time.Now()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	klog.SetSlogLogger(log.With("component", "kubernetes-libraries")) // the streaming libraries log through klog
	tell := newNotifier()
	for _, dir := range []string{cfg.DataDir, cfg.RunDir} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	locked, err := lock(cfg.RunDir)
	if err != nil {
		return err
	}
	defer locked.Close()

	g, ctx := errgroup.WithContext(ctx)
	var eng *engine
	if cfg.Has(Engine) {
		tell.status("opening the engine")
		if eng, err = openEngine(ctx, cfg, log.With("component", "engine")); err != nil {
			return err
		}
		defer eng.close()
		sock, err := listenUnix(cfg.EngineSocket())
		if err != nil {
			return fmt.Errorf("listen on %s: %w", cfg.EngineSocket(), err)
		}
		criSock, err := listenUnix(cfg.CRISocket())
		if err != nil {
			return fmt.Errorf("listen on %s: %w", cfg.CRISocket(), err)
		}
		g.Go(func() error { return eng.run(ctx, cfg, sock, criSock) })
	}

	var node *kubelet.Kubelet // set before the first request can ask for it
	plane, closePlane, err := openPlane(ctx, g, &cfg, func() http.Handler { return node.Handler() }, tell, log)
	if err != nil {
		return stopped(ctx, g, err)
	}
	defer closePlane()

	if cfg.Has(Kubelet) {
		if node, err = openKubelet(ctx, g, cfg, eng, plane, log.With("component", "kubelet")); err != nil {
			return stopped(ctx, g, err)
		}
	}
	if plane != nil {
		if err := plane.wait(ctx); err != nil {
			return stopped(ctx, g, err)
		}
	}
	if cfg.Has(Controllers) {
		doer := plane.as(auth.Component("kube-controller-manager"))
		sink := events.New(doer, log)
		loop := reconcile.New(plane.reader, doer, recorder(sink), reconcile.Options{}, log.With("component", "controllers"), controllers.All(controllers.Config{ClusterCIDR: cfg.ClusterCIDR, Signer: plane.signer})...)
		g.Go(func() error { return sink.Run(ctx) })
		g.Go(func() error { return loop.Run(ctx) })
	}
	if cfg.Has(Scheduler) {
		doer := plane.as(auth.Component("kube-scheduler"))
		sink := events.New(doer, log)
		s := scheduler.New(plane.reader, doer, sink.For("default-scheduler", ""), log.With("component", "scheduler"))
		g.Go(func() error { return sink.Run(ctx) })
		g.Go(func() error { return s.Run(ctx) })
	}
	if cfg.Has(Proxy) {
		runProxy(ctx, g, cfg, plane, log)
	}
	if node != nil {
		g.Go(func() error { return node.Run(ctx) })
		tell.status("waiting for node %s to be ready", cfg.NodeName)
		if err := waitNode(ctx, plane.reader, cfg.NodeName); err != nil {
			return stopped(ctx, g, err)
		}
	}
	log.Info("ready", "roles", cfg.Roles, "took", time.Since(began).Round(time.Millisecond))
	tell.ready()
	return stopped(ctx, g, nil)
}

// stopped waits for all Runs; a part's own failure counts more than the waiting that it cut short.
func stopped(ctx context.Context, g *errgroup.Group, err error) error {
	if err != nil && ctx.Err() == nil {
		g.Go(func() error { return err }) // ends the others
	}
	if first := g.Wait(); first != nil && !errors.Is(first, context.Canceled) {
		return first
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func recorder(s *events.Sink) func(component string) reconcile.Recorder {
	return func(component string) reconcile.Recorder { return s.For(component, "") }
}

// plane is the API as the components see it: the server in this process, or one elsewhere.
type plane struct {
	reader cache.Reader
	as     func(auth.User) client.Doer
	wait   func(context.Context) error // until it answers

	signer  certificates.Signer                                  // nil: the authority's key is elsewhere
	serving func(*tls.ClientHelloInfo) (*tls.Certificate, error) // the kubelet's certificate
	clients *x509.CertPool                                       // who may ask the kubelet
	follow  func(context.Context, *corev1.Pod) error             // nil: the reader has everything
}

// openPlane opens the store and the API server, or connects to --server. An engine alone has none.
func openPlane(ctx context.Context, g *errgroup.Group, cfg *Config, kubelet func() http.Handler, tell notifier, log *slog.Logger) (*plane, func(), error) {
	nothing := func() {}
	switch {
	case cfg.Has(APIServer):
		return openServer(ctx, g, *cfg, kubelet, tell, log)
	case cfg.Server == "":
		return nil, nothing, nil
	case cfg.joins():
		p, err := openMember(ctx, g, cfg, tell, log)
		return p, nothing, err
	}
	doer, err := connect(*cfg)
	if err != nil {
		return nil, nothing, err
	}
	var follow []client.Selection
	for _, t := range kinds.All {
		follow = append(follow, client.Selection{Type: t})
	}
	c := cache.New(client.NewListWatch(doer, follow, log), kinds.All, cache.Options{}, log)
	g.Go(func() error { return c.Run(ctx) })
	return &plane{
		reader: c, as: func(auth.User) client.Doer { return doer },
		wait: func(ctx context.Context) error { return wait(ctx, c.Ready()) },
	}, nothing, nil
}

func openServer(ctx context.Context, g *errgroup.Group, cfg Config, kubelet func() http.Handler, tell notifier, log *slog.Logger) (_ *plane, close func(), err error) {
	tell.status("opening the store")
	log = log.With("component", "apiserver")
	st, err := openStore(ctx, cfg, log)
	if err != nil {
		return nil, nil, err
	}
	config := apiserver.Config{
		Store: st, DataDir: cfg.DataDir, Listen: cfg.Listen, InsecurePort: cfg.InsecurePort, AdvertiseIP: cfg.NodeIP,
		ClusterCIDR: cfg.ClusterCIDR, ServiceCIDR: cfg.ServiceCIDR, ClusterDomain: cfg.ClusterDomain,
		Names: []string{cfg.NodeName}, History: time.Duration(cfg.History),
		Kubelet: func(node string) (apiserver.Backend, error) {
			if node != cfg.NodeName || !cfg.Has(Kubelet) {
				return apiserver.Backend{}, errs.New(errs.NotFound, "the kubelet of node %s is not in this process", node)
			}
			return apiserver.Backend{Handler: kubelet()}, nil
		},
	}
	cfg.Access.into(&config)
	server, err := apiserver.New(config, log)
	if err != nil {
		st.Close()
		return nil, nil, err
	}
	keeper := store.Keeper{
		Store: st, Log: log, Keep: time.Duration(cfg.History), File: filepath.Join(historyDir(cfg), "marks.json"), Tell: server.ShortOfRoom,
	}
	g.Go(func() error { return server.Run(ctx) })
	g.Go(func() error { return ignore(keeper.Run(ctx), context.Canceled) })
	ready := func(ctx context.Context) error {
		if err := wait(ctx, server.Ready()); err != nil {
			return err
		}
		data, err := server.Kubeconfig(auth.Admin())
		if err != nil {
			return err
		}
		return atomicfile.Write(cfg.Kubeconfig, data, 0o600)
	}
	return &plane{
		reader: server.Cache(), as: server.As, wait: ready,
		signer: server.Auth(), serving: issued(server.Auth(), cfg), clients: server.Auth().Pool(),
	}, func() { st.Close() }, nil
}

func kubeletDir(cfg Config) string { return filepath.Join(cfg.DataDir, "kubelet") }

func runProxy(ctx context.Context, g *errgroup.Group, cfg Config, p *plane, log *slog.Logger) {
	forProxy, forDNS := newServices(p.reader), newServices(p.reader)
	px := proxy.New(proxyConfig(cfg), forProxy, log.With("component", "proxy"))
	names := dns.New(dnsConfig(cfg), forDNS, log.With("component", "dns"))
	g.Go(func() error { return forProxy.run(ctx) })
	g.Go(func() error { return forDNS.run(ctx) })
	g.Go(func() error { return px.Run(ctx) })
	g.Go(func() error { return names.Run(ctx) })
}

func proxyConfig(cfg Config) proxy.Config {
	return proxy.Config{Name: cfg.Name, Facts: proxy.Facts{
		NodeName: cfg.NodeName, NodeIP: cfg.NodeIP, ClusterCIDR: cfg.ClusterCIDR, ServiceCIDR: cfg.ServiceCIDR,
		OwnIPs: []netip.Addr{cfg.ClusterDNS()},
	}}
}

func dnsConfig(cfg Config) dns.Config {
	return dns.Config{
		Domain: cfg.ClusterDomain, Listen: []netip.AddrPort{netip.AddrPortFrom(cfg.ClusterDNS(), 53)},
		Reverse: []netip.Prefix{cfg.ClusterCIDR, cfg.ServiceCIDR},
	}
}

// waitNode returns when the node's condition Ready is True.
func waitNode(ctx context.Context, r cache.Reader, name string) error {
	ready := func(n *corev1.Node) bool {
		return n != nil && slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
	}
	snap := r.Snapshot()
	if n, ok := cache.Get[corev1.Node](snap, "", name); ok && ready(n) {
		return nil
	}
	for change, err := range r.Watch(ctx, kinds.For[corev1.Node](), snap.RevisionOf(kinds.For[corev1.Node]())) {
		if err != nil {
			return fmt.Errorf("wait for node %s: %w", name, err)
		}
		if change.New != nil && change.New.Object.GetName() == name && ready(cache.As[corev1.Node](change.New)) {
			return nil
		}
	}
	return ctx.Err()
}

func wait(ctx context.Context, ready <-chan struct{}) error {
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// StopAll stops and removes every container of an instance whose daemon does not run, and the packet rules of its services;
// with purge, its data too.
func StopAll(ctx context.Context, cfg Config, purge bool, log *slog.Logger) error {
	if err := os.MkdirAll(cfg.RunDir, 0o711); err != nil {
		return err
	}
	locked, err := lock(cfg.RunDir)
	if err != nil {
		return err
	}
	defer locked.Close()
	eng, err := openEngine(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer eng.close()
	if err := eng.containers.StopAll(ctx); err != nil {
		return fmt.Errorf("stop all containers: %w", err)
	}
	if err := volume.Unmount(kubeletDir(cfg)); err != nil {
		return fmt.Errorf("unmount the volumes of pods: %w", err)
	}
	if err := eng.volumes.Teardown(); err != nil {
		return err
	}
	if err := eng.networks.Teardown(); err != nil {
		return fmt.Errorf("remove networks: %w", err)
	}
	if err := proxy.New(proxyConfig(cfg), nil, log).Remove(); err != nil {
		return fmt.Errorf("remove the rules of services: %w", err)
	}
	if err := dns.New(dnsConfig(cfg), nil, log).Remove(); err != nil {
		return fmt.Errorf("remove the name server's address: %w", err)
	}
	if err := route.Apply(cfg.podAddresses(), nil); err != nil {
		return fmt.Errorf("remove the routes to other nodes: %w", err)
	}
	folders := []string{cfg.RunDir}
	if purge {
		folders = append(folders, cfg.DataDir)
	}
	for _, dir := range folders {
		if err := removeAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// removeAll removes a folder with all in it. A mount below it is an error: a recursive removal must never reach through one.
func removeAll(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("look for mounts below %s: %w", dir, err)
	}
	if len(mounts) > 0 {
		return errs.New(errs.Conflict, "%s is still mounted; unmount it and try again", mounts[0].Mountpoint)
	}
	return os.RemoveAll(dir)
}
