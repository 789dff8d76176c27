// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/knarr/knarr/internal/nft"
)

// Open recovers: it reads the files, makes what is missing in the kernel, removes what no file names, takes the published
// ports again and replaces the nftables table in one transaction. Running containers notice nothing.
func Open(cfg Config) (*Networks, error) {
	if cfg.Name == "" {
		cfg.Name = "knarr"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	n := &Networks{
		name: cfg.Name, files: files{dir: cfg.Dir, run: cfg.RunDir}, log: cfg.Log, table: nft.NewOwner(cfg.Name + "-engine"),
		table6: nft.NewOwner6(cfg.Name + "-engine"), publishOn: cfg.PublishOn, hostNames: cfg.HostNames,
		networks: map[string]*Network{}, endpoints: map[endpointKey]*Endpoint{}, cursors: map[string]netip.Addr{},
		leaving: map[endpointKey]*departure{}, published: map[endpointKey][]*publication{}, nameServers: map[string]func(){},
	}
	if err := n.files.prepare(); err != nil {
		return nil, fmt.Errorf("open networks: %w", err)
	}
	var err error
	if n.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open networks: %w", err)
	}
	if n.reaper, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		n.nl.Close()
		return nil, fmt.Errorf("open networks: %w", err)
	}
	if err := n.recover(); err != nil {
		n.Close()
		return nil, fmt.Errorf("open networks: %w", err)
	}
	return n, nil
}

func (n *Networks) recover() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var err error
	if n.networks, err = n.files.loadNetworks(); err != nil {
		return err
	}
	links, err := n.ownLinks()
	if err != nil {
		return err
	}
	for _, net := range n.networks {
		if err := n.realize(net); err != nil {
			return fmt.Errorf("network %s: %w", net.Name, err)
		}
		if err := n.recoverEndpoints(net, links); err != nil {
			return fmt.Errorf("endpoints of network %s: %w", net.Name, err)
		}
	}
	for name := range links {
		n.log.Info("removing a link that no endpoint has", "link", name)
		if err := deleteLink(n.nl, name); err != nil {
			return err
		}
	}
	for key, e := range n.endpoints {
		n.reopenPorts(key, e)
	}
	n.serveHostNames()
	return n.applyRules()
}

// recoverEndpoints keeps the endpoints that are whole, takes their links out of the set, and removes the files of others.
func (n *Networks) recoverEndpoints(net *Network, links map[string]bool) error {
	found, err := n.files.loadEndpoints(net.ID)
	if err != nil {
		return err
	}
	n.cursors[net.ID] = n.files.loadCursor(net.ID)
	for _, f := range found {
		e := f.Endpoint
		key := endpointKey{net.ID, e.Sandbox}
		if !f.Pending && links[e.HostLink] && pinned(e.NetnsPath) {
			n.endpoints[key] = &e
			delete(links, e.HostLink)
			continue
		}
		// Interrupted, or its namespace is gone (a reboot, or the sandbox was removed while we were away).
		n.log.Debug("removing an endpoint without a namespace", "network", net.Name, "sandbox", e.Sandbox)
		if err := deleteLink(n.nl, e.HostLink); err != nil {
			return err
		}
		delete(links, e.HostLink)
		if err := n.files.removeEndpoint(key); err != nil {
			return err
		}
	}
	return nil
}

// reopenPorts takes the ports again. One that somebody else got while we were away is a warning: nftables still carries
// connections from outside, and refusing to start would help nobody.
func (n *Networks) reopenPorts(key endpointKey, e *Endpoint) {
	for _, p := range e.Ports {
		pub, err := publishPort(p, e)
		if err != nil {
			n.log.Warn("a published port cannot be taken again; connections to localhost will not reach the container",
				"port", p.HostPort, "protocol", p.Protocol, "sandbox", e.Sandbox, "err", err)
			continue
		}
		n.published[key] = append(n.published[key], pub)
	}
}

// ownLinks lists this instance's ends of veth pairs.
func (n *Networks) ownLinks() (map[string]bool, error) {
	list, err := n.nl.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list links: %w", err)
	}
	out := map[string]bool{}
	for _, l := range list {
		if name := l.Attrs().Name; strings.HasPrefix(name, linkPrefix(n.name)) && len(name) == 15 {
			out[name] = true
		}
	}
	return out, nil
}

// Teardown removes everything of the instance from the kernel: endpoints, bridges, routes, the nftables table. The files of
// the networks stay, so the next Open makes them again. It is what `knarr stop-all` and `make down` end with.
func (n *Networks) Teardown() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []error
	for key, e := range maps.Clone(n.endpoints) { // a copy, as detach lets go of mu
		all = append(all, n.detach(key, e))
	}
	n.await(func(endpointKey, *Endpoint) bool { return true })
	for _, net := range n.networks {
		all = append(all, n.unrealize(net))
	}
	// An earlier life may have made it, for a network that is gone. A kernel without IPv6 has no such table to remove.
	if err := n.table6.Remove(); n.have6 {
		all = append(all, err)
	}
	return errors.Join(append(all, n.table.Remove())...)
}
