// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	mdns "github.com/miekg/dns"

	"github.com/knarr/knarr/internal/upstream"
)

// A network that a user made has a name server on its gateway's address: containers find each other by name there, and the
// rest is forwarded to the host's servers, but nothing leaves an internal network (CVE-2024-29018). Docker's default
// network has none, and neither have pods, whose names are the cluster's.

// nameTTL of an answer, seconds; Docker's value.
const nameTTL = 600

// maxNameQuestions bounds the questions of one network that wait for upstreams at once.
const maxNameQuestions = 128

func (net *Network) servesNames() bool { return net.Driver == DriverBridge && net.Name != NameBridge }

// serveNames starts a network's name server. Without one the network still works, so what is in the way is only said.
func (n *Networks) serveNames(network *Network) {
	if !network.servesNames() || n.nameServers[network.ID] != nil {
		return
	}
	at := netip.AddrPortFrom(network.Gateway, 53)
	udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		n.log.Warn("containers of this network cannot be found by name", "network", network.Name, "err", err)
		return
	}
	tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		udp.Close()
		n.log.Warn("containers of this network cannot be found by name", "network", network.Name, "err", err)
		return
	}
	s := &nameServer{networks: n, id: network.ID, busy: make(chan struct{}, maxNameQuestions), at: at, up: map[string]*upstream.Servers{}}
	// They end when their sockets are closed.
	go (&mdns.Server{PacketConn: udp, Handler: s}).ActivateAndServe()
	go (&mdns.Server{Listener: tcp, Handler: s}).ActivateAndServe()
	n.nameServers[network.ID] = func() { udp.Close(); tcp.Close() }
}

func (n *Networks) stopNames(id string) {
	if stop := n.nameServers[id]; stop != nil {
		stop()
		delete(n.nameServers, id)
	}
}

// nameServer of one network.
type nameServer struct {
	networks *Networks
	id       string
	at       netip.AddrPort
	busy     chan struct{}

	mu sync.Mutex                   // guards up
	up map[string]*upstream.Servers // by the addresses that a client asked for; "" are this machine's
}

// maxUpstreams bounds what is remembered about sets of name servers.
const maxUpstreams = 64

// upstream is whom to ask for a client: the servers that its container was given (--dns), or this machine's.
func (s *nameServer) upstream(endpoints []Endpoint, client netip.Addr) *upstream.Servers {
	cfg := upstream.Config{Own: []netip.AddrPort{s.at}}
	key := ""
	for _, e := range endpoints {
		if e.NetworkID != s.id || e.IP != client {
			continue
		}
		for _, a := range e.NameServers {
			cfg.Servers = append(cfg.Servers, netip.AddrPortFrom(a, 53))
			key += a.String() + " "
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.up[key] == nil {
		if len(s.up) >= maxUpstreams {
			clear(s.up)
		}
		s.up[key] = upstream.New(cfg, s.networks.log)
	}
	return s.up[key]
}

// ServeDNS answers one question; the library calls it on a goroutine of its own.
func (s *nameServer) ServeDNS(w mdns.ResponseWriter, req *mdns.Msg) {
	client, tcp := clientAddr(w.RemoteAddr())
	reply := s.answer(req, client, tcp)
	if !tcp {
		size := mdns.MinMsgSize
		if opt := req.IsEdns0(); opt != nil {
			size = min(max(int(opt.UDPSize()), size), upstream.PayloadLimit)
		}
		reply.Truncate(size)
	}
	w.WriteMsg(reply) // a client that went away hears nothing
}

func clientAddr(a net.Addr) (netip.Addr, bool) {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap(), true
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap(), false
	}
	return netip.Addr{}, false
}

func (s *nameServer) answer(req *mdns.Msg, client netip.Addr, tcp bool) *mdns.Msg {
	reply := new(mdns.Msg)
	if req.Opcode != mdns.OpcodeQuery || len(req.Question) != 1 || req.Question[0].Qclass != mdns.ClassINET {
		return reply.SetRcode(req, mdns.RcodeNotImplemented)
	}
	networks, endpoints := s.networks.view()
	if rrs, known := Names(networks, endpoints, s.id, client, req.Question[0]); known {
		reply.SetReply(req)
		reply.RecursionAvailable, reply.Answer = true, rrs
		return reply
	}
	i := slices.IndexFunc(networks, func(net Network) bool { return net.ID == s.id })
	if i < 0 || networks[i].Internal {
		return reply.SetRcode(req, mdns.RcodeServerFailure)
	}
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	default:
		return reply.SetRcode(req, mdns.RcodeServerFailure)
	}
	if got, err := s.upstream(endpoints, client).Exchange(req, tcp); err == nil {
		return got
	}
	return reply.SetRcode(req, mdns.RcodeServerFailure)
}

func (n *Networks) view() ([]Network, []Endpoint) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.list(), n.endpointList("")
}

// Names answers a question of a client on a network from what its sandbox can reach: the endpoints of all networks that it
// is on, by alias or by "alias.network", and their addresses in reverse. It says false if the name is none of theirs.
func Names(networks []Network, endpoints []Endpoint, network string, client netip.Addr, q mdns.Question) ([]mdns.RR, bool) {
	within := reachable(networks, endpoints, network, client)
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	var out []mdns.RR
	known := false
	for _, e := range endpoints {
		if !within[e.NetworkID] {
			continue
		}
		if rev, _ := mdns.ReverseAddr(e.IP.String()); rev == name+"." && len(e.Aliases) > 0 {
			known = true
			if q.Qtype == mdns.TypePTR {
				out = append(out, &mdns.PTR{Hdr: nameHeader(q), Ptr: mdns.Fqdn(e.Aliases[0] + "." + e.Network)})
			}
		}
		for _, alias := range e.Aliases {
			alias = strings.ToLower(alias)
			if name != alias && name != alias+"."+strings.ToLower(e.Network) {
				continue
			}
			known = true
			if q.Qtype == mdns.TypeA {
				out = append(out, &mdns.A{Hdr: nameHeader(q), A: e.IP.AsSlice()})
			}
			break
		}
	}
	return out, known
}

// reachable are the networks with names that the client's sandbox is on.
func reachable(networks []Network, endpoints []Endpoint, network string, client netip.Addr) map[string]bool {
	within := map[string]bool{network: true}
	sandbox := ""
	for _, e := range endpoints {
		if e.NetworkID == network && e.IP == client {
			sandbox = e.Sandbox
		}
	}
	for _, e := range endpoints {
		if e.Sandbox != sandbox {
			continue
		}
		for i := range networks {
			if networks[i].ID == e.NetworkID && networks[i].servesNames() {
				within[e.NetworkID] = true
			}
		}
	}
	return within
}

func nameHeader(q mdns.Question) mdns.RR_Header {
	return mdns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: mdns.ClassINET, Ttl: nameTTL}
}
