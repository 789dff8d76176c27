// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/engine/network"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/version"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/kubelet"
	"github.com/knarr/knarr/kubelet/route"
	"github.com/knarr/knarr/kubelet/server"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/events"
)

// kubeletPort is where kubelets are looked for; another instance on this machine may have it.
const kubeletPort = 10250

// openKubelet makes the kubelet, opens its HTTPS server and keeps the routes to the other nodes' pods.
func openKubelet(ctx context.Context, g *errgroup.Group, cfg Config, eng *engine, p *plane, log *slog.Logger) (*kubelet.Kubelet, error) {
	doer := p.as(auth.Node(cfg.NodeName))
	sink := events.New(doer, log)
	g.Go(func() error { return sink.Run(ctx) })
	n := &podNet{cfg: cfg, eng: eng, reader: p.reader, log: log}
	kc := kubelet.Config{
		NodeName: cfg.NodeName, NodeIPs: []netip.Addr{cfg.NodeIP}, Network: n.ensure, Follow: p.follow,
		ClusterDNS: []netip.Addr{cfg.ClusterDNS()}, ClusterDomain: cfg.ClusterDomain, DataDir: kubeletDir(cfg),
		NoDebugging: !cfg.DebuggingHandlers,
		Version:     version.Kubernetes + "+knarr", Runtime: "knarr://" + version.Version,
	}
	var listener net.Listener
	if p.serving != nil {
		var err error
		if listener, kc.Port, err = listenKubelet(cfg.NodeIP); err != nil {
			return nil, err
		}
	}
	k, err := kubelet.New(kc, runtime{eng}, p.reader, doer, sink.For("kubelet", cfg.NodeName), log)
	if err != nil {
		if listener != nil {
			listener.Close()
		}
		return nil, err
	}
	if listener != nil {
		access := &server.Access{Node: cfg.NodeName, Do: doer, Log: log}
		g.Go(func() error { return serveKubelet(ctx, access.Guard(k.Handler()), listener, p, log) })
	}
	g.Go(func() error { return n.run(ctx) })
	return k, nil
}

// listenKubelet takes the kubelet's port, or any when another instance has it.
func listenKubelet(ip netip.Addr) (net.Listener, int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(ip.String(), strconv.Itoa(kubeletPort)))
	if errors.Is(err, unix.EADDRINUSE) {
		l, err = net.Listen("tcp", net.JoinHostPort(ip.String(), "0"))
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open the kubelet's port on --node-ip %s: %w", ip, err)
	}
	return l, l.Addr().(*net.TCPAddr).Port, nil
}

// serveKubelet serves the kubelet's API to the API server, and to whom that allows it.
func serveKubelet(ctx context.Context, h http.Handler, l net.Listener, p *plane, log *slog.Logger) error {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 3 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return serve(ctx, s, tls.NewListener(l, &tls.Config{
		GetCertificate: p.serving, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: p.clients, MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"}, // exec and its like upgrade the connection
	}))
}

// issued is a serving certificate of the authority in this process, made again when a third of its life is left.
func issued(a *auth.Authority, cfg Config) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	var mu sync.Mutex // guards have
	var have *tls.Certificate
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if have != nil && time.Until(have.Leaf.NotAfter) > have.Leaf.NotAfter.Sub(have.Leaf.NotBefore)/3 {
			return have, nil
		}
		pair, err := a.Server(auth.Node(cfg.NodeName).Name, []string{cfg.NodeName, cfg.NodeIP.String()})
		if err != nil {
			return nil, err
		}
		have, err = pair.TLS()
		return have, err
	}
}

// podNet is the network of this node's pods, and the way to the others'.
type podNet struct {
	cfg    Config
	eng    *engine
	reader cache.Reader
	log    *slog.Logger

	mu   sync.Mutex // guards cidr
	cidr netip.Prefix
}

// ensure makes the pods' network of the addresses that the node was given.
func (n *podNet) ensure(ctx context.Context, cidrs []netip.Prefix) error {
	i := slices.IndexFunc(cidrs, func(p netip.Prefix) bool { return p.Addr().Is4() })
	if i < 0 {
		return errs.New(errs.Unsupported, "the node's pod addresses %v have no IPv4 range", cidrs)
	}
	n.mu.Lock()
	n.cidr = cidrs[i]
	n.mu.Unlock()
	return n.apply(ctx)
}

// apply tells the engine the network, and what in it is not translated: pods, services and nodes see each other's own
// addresses.
func (n *podNet) apply(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.cidr.IsValid() {
		return nil // the node was given none yet
	}
	own := []netip.Prefix{n.cfg.ClusterCIDR, n.cfg.ServiceCIDR, netip.PrefixFrom(n.cfg.NodeIP, n.cfg.NodeIP.BitLen())}
	for node := range cache.List[corev1.Node](n.reader.Snapshot(), "") {
		for _, a := range node.Status.Addresses {
			ip, err := netip.ParseAddr(a.Address)
			if a.Type != corev1.NodeInternalIP || err != nil {
				continue
			}
			if p := netip.PrefixFrom(ip, ip.BitLen()); !slices.Contains(own, p) {
				own = append(own, p)
			}
		}
	}
	_, err := n.eng.networks.Ensure(ctx, network.Spec{Name: podNetwork, Driver: network.DriverRouted, Subnet: n.cidr, NoMasquerade: own})
	if err != nil {
		return fmt.Errorf("make the pods' network: %w", err)
	}
	return nil
}

// run follows the nodes: routes to their pods, and packets to them that keep their source.
func (n *podNet) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	changed := make(chan struct{}, 1)
	want := func() []route.Route {
		return route.Plan(slices.Collect(cache.List[corev1.Node](n.reader.Snapshot(), "")), n.cfg.NodeName, n.cfg.ClusterCIDR)
	}
	g.Go(func() error { return route.Run(ctx, n.cfg.ClusterCIDR, changed, want, n.log) })
	g.Go(func() error {
		nodes := kinds.For[corev1.Node]()
		if _, err := n.reader.Wait(ctx, 1, nodes); err != nil {
			return ignore(err, context.Canceled)
		}
		for ctx.Err() == nil {
			from := n.reader.Snapshot().RevisionOf(nodes)
			n.nodesChanged(ctx, changed)
			for c, err := range n.reader.Watch(ctx, nodes, from) {
				if err != nil {
					break // too far behind: what counts is the newest state anyway
				}
				if c.Old == nil || c.New == nil || !sameWay(cache.As[corev1.Node](c.Old), cache.As[corev1.Node](c.New)) {
					n.nodesChanged(ctx, changed)
				}
			}
		}
		return nil
	})
	return g.Wait()
}

func (n *podNet) nodesChanged(ctx context.Context, changed chan<- struct{}) {
	if err := n.apply(ctx); err != nil {
		n.log.Warn("tell the pods' network of the other nodes", "err", err)
	}
	select {
	case changed <- struct{}{}:
	default:
	}
}

// sameWay: a heartbeat changes nothing about where a node's pods are.
func sameWay(a, b *corev1.Node) bool {
	return slices.Equal(a.Spec.PodCIDRs, b.Spec.PodCIDRs) && slices.Equal(a.Status.Addresses, b.Status.Addresses)
}
