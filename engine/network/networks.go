// SPDX-License-Identifier: Apache-2.0

package network

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/internal/nft"
)

// Config says where an instance keeps its networks.
type Config struct {
	Name   string // the instance, default knarr: prefixes bridges and the nftables table
	Dir    string // durable: <Dir>/<id>/network.json
	RunDir string // emptied by a reboot: <RunDir>/endpoints/<network id>/<sandbox>.json

	// PublishOn is the host address of ports published on bridges that name none; default: every address.
	PublishOn netip.Addr

	// HostNames is where this machine can ask for the addresses of all containers that have a name on a network, a loopback
	// address; default: nowhere.
	HostNames netip.AddrPort

	Log *slog.Logger // default: none
}

// Networks is every network of one instance.
type Networks struct {
	name  string
	files files
	log   *slog.Logger
	nl    *netlink.Handle
	table *nft.Owner

	table6    *nft.Owner // of the ip6 family; written once a network has IPv6
	publishOn netip.Addr
	hostNames netip.AddrPort

	// reaper deletes links: a handle answers one request after the other, and a deletion takes its time.
	reaper *netlink.Handle

	mu        sync.Mutex // guards the fields below, and orders everything that changes the kernel
	networks  map[string]*Network
	endpoints map[endpointKey]*Endpoint
	leaving   map[endpointKey]*departure // by its endpoint's key, which is in endpoints no more
	cursors   map[string]netip.Addr      // per network: the address given last
	published map[endpointKey][]*publication

	nameServers map[string]func() // per network, "" is this machine's own: what stops it
	have6       bool              // table6 has been written
}

type endpointKey struct{ network, sandbox string }

// Names of the networks that every instance has and that Remove refuses.
const (
	NameBridge = "bridge"
	NameHost   = "host"
	NameNone   = "none"
)

// Close stops serving published ports. Links, addresses and rules stay: containers outlive the daemon.
func (n *Networks) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, list := range n.published {
		closeAll(list)
		delete(n.published, key)
	}
	for id := range n.nameServers {
		n.stopNames(id)
	}
	n.await(func(endpointKey, *Endpoint) bool { return true })
	n.nl.Close()
	n.reaper.Close()
	return nil
}

// Run restores the nftables table whenever someone else changes it, until ctx ends.
func (n *Networks) Run(ctx context.Context) error {
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return n.table.Guard(ctx, n.log) })
	both.Go(func() error { return n.table6.Guard(ctx, n.log) })
	return both.Wait()
}

// EnsureDefaults makes the networks bridge, host and none.
func (n *Networks) EnsureDefaults(ctx context.Context) error {
	for _, s := range []Spec{
		{Name: NameBridge, Driver: DriverBridge}, {Name: NameHost, Driver: DriverHost}, {Name: NameNone, Driver: DriverNone},
	} {
		if _, err := n.Ensure(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// Create makes a network. A name that is taken is errs.Exists.
func (n *Networks) Create(_ context.Context, s Spec) (Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.create(s)
}

func (n *Networks) create(s Spec) (Network, error) {
	if !validName.MatchString(s.Name) {
		return Network{}, errs.New(errs.Invalid, "network name %q: only letters, digits, '_', '.' and '-' are allowed, starting with a letter or digit", s.Name)
	}
	if n.byName(s.Name) != nil {
		return Network{}, errs.New(errs.Exists, "network with name %s already exists", s.Name)
	}
	net := &Network{Version: 1, ID: newID(), Spec: s, Created: time.Now().UTC()}
	if err := n.complete(net); err != nil {
		return Network{}, fmt.Errorf("create network %s: %w", s.Name, err)
	}
	if err := n.files.saveNetwork(net); err != nil {
		return Network{}, err
	}
	n.networks[net.ID] = net
	err := n.realize(net)
	if err == nil {
		err = n.applyRules()
	}
	if err != nil {
		n.log.Debug("undo creation of a network", "network", s.Name, "err", n.remove(net))
		return Network{}, fmt.Errorf("create network %s: %w", s.Name, err)
	}
	n.log.Info("network created", "network", net.Name, "driver", net.Driver, "subnet", net.Subnet, "bridge", net.Bridge)
	return net.copy(), nil
}

// complete fills in what the caller left to us, and checks the rest.
func (n *Networks) complete(net *Network) error {
	if net.Driver == "" {
		net.Driver = DriverBridge
	}
	switch net.Driver {
	case DriverHost, DriverNone:
		net.Subnet, net.Gateway, net.Bridge, net.MTU = netip.Prefix{}, netip.Addr{}, "", 0
		return nil
	case DriverBridge, DriverRouted:
	default:
		return errs.New(errs.Unsupported, "driver %q: there are bridge, routed, host and none", net.Driver)
	}
	if net.LinkPrefix == "" {
		net.LinkPrefix = "eth"
	}
	if len(net.LinkPrefix) > 12 || !validName.MatchString(net.LinkPrefix) {
		return errs.New(errs.Invalid, "interface prefix %q: at most 12 letters and digits", net.LinkPrefix)
	}
	if net.MTU == 0 {
		net.MTU = n.defaultMTU()
	}
	if net.MTU < 68 || net.MTU > 65535 {
		return errs.New(errs.Invalid, "MTU %d is not between 68 and 65535", net.MTU)
	}
	chosen := net.Bridge != ""
	if !chosen {
		net.Bridge = bridgeName(n.name, net.Name, net.ID)
	}
	if len(net.Bridge) > 15 || strings.ContainsAny(net.Bridge, "/ :") {
		return errs.New(errs.Invalid, "bridge name %q: at most 15 characters, without '/', ':' and space", net.Bridge)
	}
	if _, err := n.nl.LinkByName(net.Bridge); err == nil && chosen { // one of our own making may be left of an earlier life
		return errs.New(errs.Conflict, "a link with the name %s exists already; choose another for the bridge", net.Bridge)
	}
	if err := n.chooseSubnet(net); err != nil {
		return err
	}
	if err := n.chooseSubnet6(net); err != nil {
		return err
	}
	return net.checkAddresses()
}

// checkAddresses fills in the gateways and checks that everything lies where it must.
func (net *Network) checkAddresses() error {
	for _, f := range []struct {
		subnet, within netip.Prefix
		gateway        *netip.Addr
	}{{net.Subnet, net.IPRange, &net.Gateway}, {net.Subnet6, net.IPRange6, &net.Gateway6}} {
		if !f.subnet.IsValid() {
			if f.within.IsValid() || f.gateway.IsValid() {
				return errs.New(errs.Invalid, "a gateway or a range of addresses needs a subnet of its family")
			}
			continue
		}
		if !f.gateway.IsValid() {
			*f.gateway = f.subnet.Addr().Next()
		}
		if !f.subnet.Contains(*f.gateway) {
			return errs.New(errs.Invalid, "no matching subnet for gateway %s: it is outside %s", *f.gateway, f.subnet)
		}
		if f.within.IsValid() && (f.within.Bits() < f.subnet.Bits() || !f.subnet.Contains(f.within.Addr())) {
			return errs.New(errs.Invalid, "no matching subnet for range %s: it is outside %s", f.within, f.subnet)
		}
	}
	for what, a := range net.Reserved {
		if !net.Subnet.Contains(a) && !net.Subnet6.Contains(a) {
			return errs.New(errs.Invalid, "no matching subnet for aux-address %s=%s", what, a)
		}
	}
	return nil
}

func (n *Networks) chooseSubnet6(net *Network) error {
	if !net.IPv6 {
		if net.Subnet6.IsValid() {
			return errs.New(errs.Invalid, "subnet %s: the network is made without IPv6 (--ipv6)", net.Subnet6)
		}
		return nil
	}
	if net.Driver != DriverBridge {
		return errs.New(errs.Unsupported, "driver %s: only bridge networks have IPv6", net.Driver)
	}
	var own []netip.Prefix
	for _, other := range n.networks {
		if other.Subnet6.IsValid() {
			own = append(own, other.Subnet6)
		}
	}
	if !net.Subnet6.IsValid() {
		var ok bool
		if net.Subnet6, ok = freeSubnet6(n.name, own); !ok {
			return errs.New(errs.Unavailable, "every IPv6 subnet is in use; give one with --subnet")
		}
		return nil
	}
	net.Subnet6 = net.Subnet6.Masked()
	if net.Subnet6.Bits() > 126 || net.Subnet6.Addr().IsLoopback() || net.Subnet6.Addr().IsLinkLocalUnicast() || net.Subnet6.Addr().IsMulticast() {
		return errs.New(errs.Invalid, "subnet %s cannot be a network's", net.Subnet6)
	}
	for _, p := range own {
		if p.Overlaps(net.Subnet6) {
			return errs.New(errs.Conflict, "subnet %s overlaps %s, which another network has", net.Subnet6, p)
		}
	}
	return nil
}

func (n *Networks) chooseSubnet(net *Network) error {
	var own []netip.Prefix
	for _, other := range n.networks {
		if other.Subnet.IsValid() {
			own = append(own, other.Subnet)
		}
	}
	if !net.Subnet.IsValid() {
		routes, err := n.routedPrefixes()
		if err != nil {
			return err
		}
		var ok bool
		if net.Subnet, ok = freeSubnet(append(own, routes...)); !ok {
			return errs.New(errs.Unavailable, "every subnet of the pool is in use; give one with --subnet")
		}
		return nil
	}
	net.Subnet = net.Subnet.Masked()
	if !net.Subnet.Addr().Is4() {
		return errs.New(errs.Invalid, "subnet %s: a network has an IPv4 subnet, and with --ipv6 an IPv6 one besides", net.Subnet)
	}
	if net.Subnet.Bits() > 30 {
		return errs.New(errs.Invalid, "subnet %s has no room for a gateway and a container", net.Subnet)
	}
	for _, p := range own {
		if p.Overlaps(net.Subnet) {
			return errs.New(errs.Conflict, "subnet %s overlaps %s, which another network has", net.Subnet, p)
		}
	}
	return nil
}

// Ensure returns the network of that name, made if it is missing. One that exists with another driver or subnet is
// errs.Conflict; NoMasquerade, MasqueradeOff, Internal and Labels are brought to what s says.
func (n *Networks) Ensure(_ context.Context, s Spec) (Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	have := n.byName(s.Name)
	if have == nil {
		return n.create(s)
	}
	if s.Driver != "" && s.Driver != have.Driver {
		return Network{}, errs.New(errs.Conflict, "network %s exists with driver %s, not %s", s.Name, have.Driver, s.Driver)
	}
	if s.Subnet.IsValid() && s.Subnet.Masked() != have.Subnet {
		return Network{}, errs.New(errs.Conflict, "network %s exists with subnet %s, not %s; remove it to change that", s.Name, have.Subnet, s.Subnet)
	}
	next := have.copy()
	next.NoMasquerade, next.MasqueradeOff, next.Internal = s.NoMasquerade, s.MasqueradeOff, s.Internal
	if s.Labels != nil {
		next.Labels = s.Labels
	}
	if reflect.DeepEqual(next, have.copy()) {
		return next, nil
	}
	if err := n.files.saveNetwork(&next); err != nil {
		return Network{}, err
	}
	n.networks[next.ID] = &next
	return next.copy(), n.applyRules()
}

// Get finds a network by name, id, or unique prefix of the id.
func (n *Networks) Get(nameOrID string) (Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	net, err := n.get(nameOrID)
	if err != nil {
		return Network{}, err
	}
	return net.copy(), nil
}

func (n *Networks) get(nameOrID string) (*Network, error) {
	if net := n.byName(nameOrID); net != nil {
		return net, nil
	}
	if net := n.networks[nameOrID]; net != nil {
		return net, nil
	}
	var found *Network
	for id, net := range n.networks {
		if len(nameOrID) > 0 && strings.HasPrefix(id, nameOrID) {
			if found != nil {
				return nil, errs.New(errs.Conflict, "network %s is ambiguous: more than one id starts with it", nameOrID)
			}
			found = net
		}
	}
	if found == nil {
		return nil, errs.New(errs.NotFound, "network %s not found", nameOrID)
	}
	return found, nil
}

func (n *Networks) byName(name string) *Network {
	for _, net := range n.networks {
		if net.Name == name {
			return net
		}
	}
	return nil
}

// List returns all networks, by name.
func (n *Networks) List() []Network {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.list()
}

func (n *Networks) list() []Network {
	out := make([]Network, 0, len(n.networks))
	for _, net := range n.networks {
		out = append(out, net.copy())
	}
	slices.SortFunc(out, func(a, b Network) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Remove removes a network without endpoints; one with endpoints is errs.Conflict, one that every instance has errs.Denied.
func (n *Networks) Remove(_ context.Context, nameOrID string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	net, err := n.get(nameOrID)
	if err == nil && n.await(func(key endpointKey, _ *Endpoint) bool { return key.network == net.ID }) {
		net, err = n.get(nameOrID)
	}
	if err != nil {
		return err
	}
	if net.Name == NameBridge || net.Name == NameHost || net.Name == NameNone {
		return errs.New(errs.Denied, "%s is a pre-defined network and cannot be removed", net.Name)
	}
	var users []string
	for key := range n.endpoints {
		if key.network == net.ID {
			users = append(users, key.sandbox)
		}
	}
	if len(users) > 0 {
		slices.Sort(users)
		return errs.New(errs.Denied, "network %s has active endpoints: %s", net.Name, strings.Join(users, ", ")) // Docker's 403
	}
	if err := n.remove(net); err != nil {
		return fmt.Errorf("remove network %s: %w", net.Name, err)
	}
	n.log.Info("network removed", "network", net.Name)
	return nil
}

// remove takes away kernel objects first and the file last: until then Open would make them again.
func (n *Networks) remove(net *Network) error {
	if err := n.unrealize(net); err != nil {
		return err
	}
	delete(n.networks, net.ID)
	delete(n.cursors, net.ID)
	if err := n.applyRules(); err != nil {
		return err
	}
	return n.files.removeNetwork(net.ID)
}

// Endpoints lists all endpoints, or those of one network (name or id), by address.
func (n *Networks) Endpoints(network string) []Endpoint {
	n.mu.Lock()
	defer n.mu.Unlock()
	id := ""
	if network != "" {
		net, err := n.get(network)
		if err != nil {
			return nil
		}
		id = net.ID
	}
	return n.endpointList(id)
}

func (n *Networks) endpointList(networkID string) []Endpoint {
	var out []Endpoint
	for key, e := range n.endpoints {
		if networkID == "" || key.network == networkID {
			out = append(out, e.copy())
		}
	}
	slices.SortFunc(out, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(a.NetworkID, b.NetworkID), a.IP.Compare(b.IP))
	})
	return out
}

func (n *Networks) applyRules() error {
	networks, endpoints := n.list(), n.endpointList("")
	if err := n.table.Apply(Rules(linkPrefix(n.name), networks, endpoints)); err != nil {
		return err
	}
	if slices.ContainsFunc(networks, func(net Network) bool { return net.IPv6 }) {
		n.have6 = true
	}
	if !n.have6 {
		return nil
	}
	return n.table6.Apply(Rules6(networks, endpoints))
}

func newID() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// copy keeps what callers hold apart from what we change.
func (net *Network) copy() Network {
	out := *net
	out.Labels, out.Options = maps.Clone(net.Labels), maps.Clone(net.Options)
	out.NoMasquerade, out.Reserved = slices.Clone(net.NoMasquerade), maps.Clone(net.Reserved)
	return out
}

func (e *Endpoint) copy() Endpoint {
	out := *e
	out.Ports, out.Aliases, out.NameServers = slices.Clone(e.Ports), slices.Clone(e.Aliases), slices.Clone(e.NameServers)
	out.Links = maps.Clone(e.Links)
	return out
}
