// SPDX-License-Identifier: Apache-2.0

package network

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Bounds of one published port in user space. The usual way of a connection is nftables, which has no such bounds.
const (
	maxConnections = 4096
	dialTimeout    = 5 * time.Second
	udpIdle        = 90 * time.Second // without a packet either way a client's flow is forgotten
	udpSize        = 64 << 10         // bytes; the largest datagram there is
)

// forwardTCP listens on from and carries each connection to the container. It answers the port that was bound.
func forwardTCP(from, to netip.AddrPort) (uint16, func(), error) {
	l, err := listenTCP(from)
	if err != nil {
		return 0, nil, err
	}
	slots := make(chan struct{}, maxConnections)
	var conns connSet
	go func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return // closed
			}
			select {
			case slots <- struct{}{}:
				go func() {
					defer func() { <-slots }()
					carry(&conns, c, to)
				}()
			default:
				c.Close()
			}
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), func() { l.Close(); conns.closeAll() }, nil
}

func carry(conns *connSet, client *net.TCPConn, to netip.AddrPort) {
	defer client.Close()
	up, err := net.DialTimeout("tcp", to.String(), dialTimeout)
	if err != nil {
		client.SetLinger(0) // the client sees a reset, as if nobody listened
		return
	}
	server := up.(*net.TCPConn)
	defer server.Close()
	if !conns.add(client, server) {
		return
	}
	defer conns.remove(client, server)
	var both sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{server, client}, {client, server}} {
		both.Go(func() {
			io.Copy(way[0], way[1]) // splice(2) where both are sockets
			way[0].CloseWrite()
			way[1].CloseRead()
		})
	}
	both.Wait()
}

// connSet closes what is open when a port is taken back.
type connSet struct {
	mu     sync.Mutex // guards the fields below
	open   map[net.Conn]bool
	closed bool
}

func (s *connSet) add(list ...net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[net.Conn]bool{}
	}
	for _, c := range list {
		s.open[c] = true
	}
	return !s.closed
}

func (s *connSet) remove(list ...net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range list {
		delete(s.open, c)
	}
}

func (s *connSet) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.open {
		c.Close()
	}
}

// forwardUDP carries datagrams, one socket towards the container per client, so that answers find their way back.
func forwardUDP(from, to netip.AddrPort) (uint16, func(), error) {
	network, address := hostPort(from)
	pc, err := net.ListenPacket("udp"+network, address)
	if err != nil {
		return 0, nil, err
	}
	f := &udpForward{front: pc.(*net.UDPConn), to: net.UDPAddrFromAddrPort(to), flows: map[netip.AddrPort]*net.UDPConn{}}
	go f.serve()
	return pc.LocalAddr().(*net.UDPAddr).AddrPort().Port(), f.close, nil
}

type udpForward struct {
	front *net.UDPConn
	to    *net.UDPAddr

	mu     sync.Mutex // guards the fields below
	flows  map[netip.AddrPort]*net.UDPConn
	closed bool
}

func (f *udpForward) serve() {
	buf := make([]byte, udpSize)
	for {
		size, client, err := f.front.ReadFromUDPAddrPort(buf)
		if err != nil {
			return // closed
		}
		if flow := f.flow(client); flow != nil {
			flow.SetReadDeadline(time.Now().Add(udpIdle))
			flow.Write(buf[:size]) // what is refused is lost, as datagrams may be
		}
	}
}

func (f *udpForward) flow(client netip.AddrPort) *net.UDPConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.flows[client]; c != nil {
		return c
	}
	if f.closed || len(f.flows) >= maxConnections {
		return nil
	}
	c, err := net.DialUDP("udp", nil, f.to)
	if err != nil {
		return nil
	}
	f.flows[client] = c
	go f.answers(client, c)
	return c
}

func (f *udpForward) answers(client netip.AddrPort, c *net.UDPConn) {
	defer func() {
		c.Close()
		f.mu.Lock()
		delete(f.flows, client)
		f.mu.Unlock()
	}()
	buf := make([]byte, udpSize)
	for {
		c.SetReadDeadline(time.Now().Add(udpIdle))
		size, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := f.front.WriteToUDPAddrPort(buf[:size], client); err != nil {
			return
		}
	}
}

func (f *udpForward) close() {
	f.front.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, c := range f.flows {
		c.Close()
	}
}
