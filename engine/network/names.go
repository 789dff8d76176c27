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
	if err := n.listenForNames(network.ID, netip.AddrPortFrom(network.Gateway, 53)); err != nil {
		n.log.Warn("containers of this network cannot be found by name", "network", network.Name, "err", err)
	}
}

// serveHostNames lets this machine ask for containers by name, where Config.HostNames says. It is told of the names on
// networks that users made, and nothing else is asked for it: its own name servers do that.
func (n *Networks) serveHostNames() {
	if !n.hostNames.IsValid() {
		return
	}
	if err := n.listenForNames("", n.hostNames); err != nil {
		n.log.Warn("this machine cannot ask for containers by name", "at", n.hostNames, "err", err)
	}
}

// listenForNames starts the name server of a network, or with "" that of this machine.
func (n *Networks) listenForNames(id string, at netip.AddrPort) error {
	udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		udp.Close()
		return err
	}
	s := &nameServer{networks: n, id: id, busy: make(chan struct{}, maxNameQuestions), at: at, up: map[string]*upstream.Servers{}}
	// They end when their sockets are closed.
	go (&mdns.Server{PacketConn: udp, Handler: s}).ActivateAndServe()
	go (&mdns.Server{Listener: tcp, Handler: s}).ActivateAndServe()
	n.nameServers[id] = func() { udp.Close(); tcp.Close() }
	return nil
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
	if s.id == "" {
		return hostAnswer(networks, endpoints, req, reply)
	}
	if rrs, known := Names(networks, endpoints, s.id, client, req.Question[0]); known {
		reply.SetReply(req)
		reply.RecursionAvailable, reply.Answer = true, rrs
		return reply
	}
	if !s.outward(networks, endpoints, client) {
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

// hostAnswer answers this machine: every container that has a name on some network, by name or by "name.network".
func hostAnswer(networks []Network, endpoints []Endpoint, req, reply *mdns.Msg) *mdns.Msg {
	q := req.Question[0]
	named := map[string]bool{}
	for _, net := range networks {
		named[net.ID] = net.Driver == DriverBridge
	}
	seen := func(e Endpoint) bool { return named[e.NetworkID] }
	rrs, known := answerFrom(endpoints, q, strings.ToLower(strings.TrimSuffix(q.Name, ".")), seen, func(Endpoint) bool { return false })
	if !known {
		return reply.SetRcode(req, mdns.RcodeRefused) // a resolver asks the next server
	}
	reply.SetReply(req)
	reply.Answer = rrs
	return reply
}

// outward says whether a client may hear from outside: if the sandbox is on any network that is not internal.
func (s *nameServer) outward(networks []Network, endpoints []Endpoint, client netip.Addr) bool {
	sandbox := sandboxOf(endpoints, s.id, client)
	return slices.ContainsFunc(networks, func(net Network) bool {
		return !net.Internal && (net.ID == s.id || sandbox != "" && slices.ContainsFunc(endpoints, func(e Endpoint) bool {
			return e.NetworkID == net.ID && e.Sandbox == sandbox
		}))
	})
}

// sandboxOf is whose address a client has on a network.
func sandboxOf(endpoints []Endpoint, network string, client netip.Addr) string {
	for _, e := range endpoints {
		if client.IsValid() && e.NetworkID == network && (e.IP == client || e.IP6 == client) {
			return e.Sandbox
		}
	}
	return ""
}

func (n *Networks) view() ([]Network, []Endpoint) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.list(), n.endpointList("")
}

// Names answers a question of a client on a network from what its sandbox can reach: the endpoints of all networks that it
// is on, by alias or by "alias.network", and their addresses in reverse. It says false if the name is none of theirs.
func Names(networks []Network, endpoints []Endpoint, network string, client netip.Addr, q mdns.Question) ([]mdns.RR, bool) {
	sandbox := sandboxOf(endpoints, network, client)
	within := reachable(networks, endpoints, network, sandbox)
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	linked := map[string]bool{} // sandboxes that the client alone calls so
	for _, e := range endpoints {
		for alias, to := range e.Links {
			if e.Sandbox == sandbox && sandbox != "" && strings.EqualFold(alias, name) {
				linked[e.NetworkID+"/"+to] = true
			}
		}
	}
	return answerFrom(endpoints, q, name, func(e Endpoint) bool { return within[e.NetworkID] }, func(e Endpoint) bool { return linked[e.NetworkID+"/"+e.Sandbox] })
}

// answerFrom answers a question from those endpoints that may be seen; those that are meant have the name whatever their
// aliases are.
func answerFrom(endpoints []Endpoint, q mdns.Question, name string, seen, meant func(Endpoint) bool) (out []mdns.RR, known bool) {
	for _, e := range endpoints {
		if !seen(e) {
			continue
		}
		if len(e.Aliases) > 0 && (isReverse(name, e.IP) || isReverse(name, e.IP6)) {
			known = true
			if q.Qtype == mdns.TypePTR {
				out = append(out, &mdns.PTR{Hdr: nameHeader(q), Ptr: mdns.Fqdn(e.Aliases[0] + "." + e.Network)})
			}
		}
		if !meant(e) && !slices.ContainsFunc(e.Aliases, func(alias string) bool {
			return strings.EqualFold(name, alias) || strings.EqualFold(name, alias+"."+e.Network)
		}) {
			continue
		}
		known = true
		switch {
		case q.Qtype == mdns.TypeA:
			out = append(out, &mdns.A{Hdr: nameHeader(q), A: e.IP.AsSlice()})
		case q.Qtype == mdns.TypeAAAA && e.IP6.IsValid():
			out = append(out, &mdns.AAAA{Hdr: nameHeader(q), AAAA: e.IP6.AsSlice()})
		}
	}
	return out, known
}

func isReverse(name string, a netip.Addr) bool {
	if !a.IsValid() || !strings.HasSuffix(name, ".arpa") {
		return false
	}
	rev, _ := mdns.ReverseAddr(a.String())
	return rev == name+"."
}

// reachable are the networks with names that a client's sandbox is on.
func reachable(networks []Network, endpoints []Endpoint, network, sandbox string) map[string]bool {
	within := map[string]bool{network: true}
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
