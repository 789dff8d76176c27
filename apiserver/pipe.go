// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net"
	"sync"
)

// oneConn is a listener that accepts the connection it was made with, and ends when that is closed.
type oneConn struct {
	conn chan net.Conn
	end  chan struct{}
	once sync.Once
}

func (l *oneConn) close() { l.once.Do(func() { close(l.end) }) }

// Accept returns the connection, then blocks until it is closed.
func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.end:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (l *oneConn) Close() error {
	l.close()
	return nil
}

// Addr says where: nowhere.
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// told is a connection that tells when it is closed.
type told struct {
	net.Conn
	closed func()
}

// Close closes the connection and tells.
func (c *told) Close() error {
	defer c.closed()
	return c.Conn.Close()
}
