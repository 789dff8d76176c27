// SPDX-License-Identifier: Apache-2.0

// Package dns is a node's name server: it answers for the cluster's domain and forwards the rest.
//
// What names a cluster has follows the Kubernetes DNS-based service discovery specification 1.1.0. Zone, built from services and
// endpoint slices, answers a question without I/O; Server is the thin part with sockets, the upstream resolvers and the
// clock. Each node runs one: the cluster's DNS address is an address of every node's lo, so a pod's question never leaves its
// node, and no connection tracking stands between (docs/decisions/022-dns-address.md).
//
// It owns its sockets and that address. It does not write pods' resolv.conf, and does not watch anything itself (Source does).
//
// Invariants: a name of the cluster's domain is never sent upstream; every question is answered within a bounded time, with
// an error if need be, because a resolver that waits makes every program of every pod wait.
// Goroutines: Run has one per socket, and the library one per question, bounded.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/knarr/knarr/internal/backoff"
	"github.com/knarr/knarr/internal/upstream"
)

// Config of a node's name server.
type Config struct {
	Domain string           // default cluster.local
	Listen []netip.AddrPort // UDP and TCP; addresses that this machine has not are added to lo while Run runs

	// Reverse are the prefixes whose addresses only the cluster can name: what it does not know there does not exist.
	Reverse []netip.Prefix

	// Upstreams get what is not the cluster's. Default: those of ResolvConf, read again when the file changes.
	Upstreams  []netip.AddrPort
	ResolvConf string // default /etc/resolv.conf
}

// Source is the name server's view of the cluster.
type Source interface {
	// Snapshot returns all services and endpoint slices of one moment; they are shared and read-only.
	Snapshot() ([]*corev1.Service, []*discoveryv1.EndpointSlice)
	// Changed delivers a token once the first snapshot is complete, and again after each change; tokens may be merged.
	Changed() <-chan struct{}
}

// Server answers questions.
type Server struct {
	cfg  Config
	src  Source
	log  *slog.Logger
	up   *upstream.Servers
	busy chan struct{} // one token per question that waits for an upstream

	mu   sync.RWMutex // guards zone
	zone *Zone        // nil until the first snapshot
}

// maxWaiting bounds the questions that wait for upstreams at once; more are answered SERVFAIL.
const maxWaiting = 512

// New makes a server; Run starts it.
func New(cfg Config, src Source, log *slog.Logger) *Server {
	if cfg.Domain == "" {
		cfg.Domain = "cluster.local"
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, src: src, log: log, busy: make(chan struct{}, maxWaiting),
		up: upstream.New(upstream.Config{Servers: cfg.Upstreams, ResolvConf: cfg.ResolvConf, Own: cfg.Listen}, log)}
}

// Run serves until ctx ends. An address that cannot be had yet is tried again.
func (s *Server) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for _, at := range s.cfg.Listen {
		all.Go(func() { s.serve(ctx, at) })
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.src.Changed():
		}
		services, endpointSlices := s.src.Snapshot()
		zone := NewZone(s.cfg.Domain, s.cfg.Reverse, services, endpointSlices)
		s.mu.Lock()
		s.zone = zone
		s.mu.Unlock()
	}
}

func (s *Server) serve(ctx context.Context, at netip.AddrPort) {
	pause := backoff.Pause{First: 500 * time.Millisecond, Max: 30 * time.Second}
	for said := false; ctx.Err() == nil; {
		err := s.serveOnce(ctx, at)
		if err != nil && !said {
			s.log.Error("cannot answer DNS questions; trying again", "address", at, "err", err)
			said = true
		}
		pause.Wait(ctx)
	}
}

func (s *Server) serveOnce(ctx context.Context, at netip.AddrPort) error {
	remove, err := claim(at.Addr())
	if err != nil {
		return fmt.Errorf("listen on %s: %w", at, err)
	}
	defer remove()
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return fmt.Errorf("listen on %s: %w", at, err)
	}
	defer udp.Close()
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return fmt.Errorf("listen on %s: %w", at, err)
	}
	defer tcp.Close()
	handler := mdns.HandlerFunc(s.handle)
	servers := []*mdns.Server{{PacketConn: udp, Handler: handler}, {Listener: tcp, Handler: handler}}
	ended := make(chan error, len(servers))
	for _, srv := range servers {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		go func() { ended <- srv.ActivateAndServe() }()
		select {
		case <-started: // Shutdown before this would be lost
		case err = <-ended:
			ended <- nil
		}
	}
	if err == nil {
		s.log.Info("answering DNS questions", "address", at, "domain", s.cfg.Domain)
		select {
		case <-ctx.Done():
		case err = <-ended:
			ended <- nil
		}
	}
	// The sockets are closed first, so that no question waits for the library's own patience.
	udp.Close()
	tcp.Close()
	for range servers {
		<-ended
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// claim makes an address this machine's by giving it to lo, and returns what takes it back. One that the machine has on
// another link is left alone; one that lo has is ours from an earlier life.
func claim(a netip.Addr) (func(), error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	for _, have := range list {
		if ip, _ := netip.AddrFromSlice(have.IP); ip.Unmap() == a && have.LinkIndex != lo.Attrs().Index {
			return func() {}, nil
		}
	}
	if a.IsLoopback() || a.IsUnspecified() {
		return func() {}, nil
	}
	addr := hostAddress(a)
	if err := netlink.AddrReplace(lo, addr); err != nil {
		return nil, fmt.Errorf("give %s to lo: %w", a, err)
	}
	return func() { netlink.AddrDel(lo, addr) }, nil
}

func hostAddress(a netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}, Scope: unix.RT_SCOPE_HOST}
}

// Remove takes the addresses off lo that a killed server left there. Run must have ended.
func (s *Server) Remove() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, at := range s.cfg.Listen {
		if at.Addr().IsLoopback() || at.Addr().IsUnspecified() {
			continue
		}
		if err := netlink.AddrDel(lo, hostAddress(at.Addr())); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("take %s off lo: %w", at.Addr(), err)
		}
	}
	return nil
}

// handle answers one message. The library calls it on a goroutine of its own.
func (s *Server) handle(w mdns.ResponseWriter, req *mdns.Msg) {
	_, tcp := w.RemoteAddr().(*net.TCPAddr)
	reply := s.answer(req, tcp)
	if !tcp {
		reply.Truncate(payloadSize(req))
	}
	reply.Compress = true
	if err := w.WriteMsg(reply); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Debug("a DNS answer was not sent", "client", w.RemoteAddr(), "err", err)
	}
}

// payloadSize is what the client says it can take by UDP, kept below where packets would be cut into fragments.
func payloadSize(req *mdns.Msg) int {
	if opt := req.IsEdns0(); opt != nil {
		return min(max(int(opt.UDPSize()), mdns.MinMsgSize), upstream.PayloadLimit)
	}
	return mdns.MinMsgSize
}

func (s *Server) answer(req *mdns.Msg, tcp bool) *mdns.Msg {
	if req.Opcode != mdns.OpcodeQuery || len(req.Question) != 1 {
		return failure(req, mdns.RcodeNotImplemented)
	}
	q := req.Question[0]
	if q.Qclass != mdns.ClassINET {
		return failure(req, mdns.RcodeRefused)
	}
	s.mu.RLock()
	zone := s.zone
	s.mu.RUnlock()
	if zone == nil {
		if inDomain(canonical(q.Name), mdns.Fqdn(strings.ToLower(s.cfg.Domain))) {
			return failure(req, mdns.RcodeServerFailure) // not known yet is not "does not exist"
		}
		return s.forward(req, tcp)
	}
	a, ours := zone.Answer(q)
	if !ours {
		return s.forward(req, tcp)
	}
	reply := new(mdns.Msg)
	reply.SetRcode(req, a.Rcode)
	reply.Authoritative, reply.RecursionAvailable = true, true
	reply.Answer, reply.Ns, reply.Extra = a.Answer, a.Authority, a.Extra
	if a.Follow != "" {
		s.follow(req, reply, a.Follow, tcp)
	} else {
		// Many programs take the first address: let it be another one each time.
		list := reply.Answer[a.Fixed:]
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	if opt := req.IsEdns0(); opt != nil {
		reply.SetEdns0(upstream.PayloadLimit, false)
	}
	return reply
}

// follow adds what the target of an ExternalName resolves to: clients expect the whole chain from a recursive server.
func (s *Server) follow(req, reply *mdns.Msg, target string, tcp bool) {
	next := req.Copy()
	next.Question[0].Name = target
	got := s.forward(next, tcp)
	reply.Answer = append(reply.Answer, got.Answer...)
	if got.Rcode == mdns.RcodeServerFailure && len(got.Answer) == 0 {
		reply.Rcode = mdns.RcodeServerFailure
	}
}

func (s *Server) forward(req *mdns.Msg, tcp bool) *mdns.Msg {
	if !req.RecursionDesired {
		return failure(req, mdns.RcodeRefused)
	}
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	default:
		return failure(req, mdns.RcodeServerFailure)
	}
	reply, err := s.up.Exchange(req, tcp)
	if err != nil {
		s.log.Debug("a DNS question was not answered upstream", "name", req.Question[0].Name, "err", err)
		return failure(req, mdns.RcodeServerFailure)
	}
	return reply
}

func failure(req *mdns.Msg, rcode int) *mdns.Msg {
	reply := new(mdns.Msg)
	reply.SetRcode(req, rcode)
	reply.RecursionAvailable = true
	return reply
}
