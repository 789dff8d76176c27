// SPDX-License-Identifier: Apache-2.0

// Package proxy makes Services reachable on a node: by cluster IP, node port, load balancer and, where allowed, external IP.
//
// Two pure functions make one nftables table of services, endpoint slices and a few facts about the node: resolve says
// where each service port leads, table writes it as rules. A thin applier sends the kernel what changed since the last
// time, in one transaction. The cost of a packet does not grow with the number of services: a verdict map takes a new
// connection to its service's chain, and only the first packet of a connection gets that far.
//
// It owns the table "<name>-proxy", one route to the service range where the machine has none, and the kernel's memory of
// UDP flows to endpoints that are gone. It does not open a socket, does not watch anything itself (Source does), and does not
// know how pods get their network. Rules stay when Run ends: connections outlive the daemon; Remove takes them away.
//
// Invariants: the table is a function of the last snapshot alone; a table that somebody flushed comes back by itself.
// Goroutines: Run has one for the rules and one that guards the table.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/knarr/knarr/internal/backoff"
	"github.com/knarr/knarr/internal/nft"
)

// Config of a node's proxy.
type Config struct {
	Name string // the instance, default knarr: prefixes the table
	Facts
}

// Facts is what the rules depend on about the node and the cluster.
type Facts struct {
	NodeName    string
	NodeIP      netip.Addr
	ClusterCIDR netip.Prefix // of all pods; sources outside it are masqueraded on their way to a cluster IP
	ServiceCIDR netip.Prefix // of all cluster IPs; one that no service has is refused at once

	// OwnIPs are cluster IPs that the node answers itself (its DNS server has one as an address): they get no rules.
	OwnIPs []netip.Addr

	// ExternalIPs obeys spec.externalIPs. Whoever may write a Service can then take over any address (CVE-2020-8554), so it
	// is off unless the administrator says so.
	ExternalIPs bool
}

// Source is the proxy's view of the cluster.
type Source interface {
	// Snapshot returns all services and endpoint slices of one moment; they are shared and read-only.
	Snapshot() ([]*corev1.Service, []*discoveryv1.EndpointSlice)
	// Changed delivers a token once the first snapshot is complete, and again after each change; tokens may be merged.
	Changed() <-chan struct{}
}

// Proxy keeps a node's rules.
type Proxy struct {
	facts Facts
	src   Source
	log   *slog.Logger
	table *nft.Owner
	flows flows // of the table applied last
}

// New makes a proxy; Run starts it.
func New(cfg Config, src Source, log *slog.Logger) *Proxy {
	if cfg.Name == "" {
		cfg.Name = "knarr"
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Proxy{facts: cfg.Facts, src: src, log: log, table: nft.NewOwner(cfg.Name + "-proxy")}
}

// retry is how long Run waits before it tries again what the kernel refused.
func retry() *backoff.Pause {
	return &backoff.Pause{First: 200 * time.Millisecond, Max: 30 * time.Second}
}

// Run keeps the rules right until ctx ends.
func (p *Proxy) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	guard := make(chan error, 1)
	go func() { guard <- p.table.Guard(ctx, p.log) }()
	defer func() { stop(); <-guard }()
	var again <-chan time.Time
	pause := retry()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-guard:
			guard <- nil
			if err == nil && ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("proxy: %w", err)
		case <-p.src.Changed():
		case <-again:
		}
		again = nil
		if err := p.sync(); err != nil {
			wait := pause.Next()
			p.log.Error("service rules cannot be applied; trying again", "err", err, "after", wait)
			again = time.After(wait)
			continue
		}
		pause.Reset()
	}
}

// sync is one pass: look, decide, apply.
func (p *Proxy) sync() error {
	services, slices := p.src.Snapshot()
	began := time.Now()
	if err := ensureRoute(p.facts); err != nil {
		return err
	}
	ports := resolve(services, slices, p.facts)
	if err := p.table.Apply(table(ports, p.facts)); err != nil {
		return err
	}
	now := flowsOf(ports)
	if err := forgetStale(p.flows, now); err != nil {
		p.log.Warn("old UDP flows are not forgotten; clients may miss a service until they time out", "err", err)
	}
	p.flows = now
	p.log.Debug("service rules applied", "services", len(services), "ports", len(ports), "took", time.Since(began))
	return nil
}

// Remove takes the table and the route away. Run must have ended.
func (p *Proxy) Remove() error {
	return errors.Join(p.table.Remove(), removeRoute(p.facts))
}
