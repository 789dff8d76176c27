// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"net"
	"net/http"
)

// watched tells when the client of a taken-over connection goes away. net/http does that only while it reads the
// connection itself; from then on whoever reads it gets the end, and so do we.
type watched struct {
	http.ResponseWriter
	gone func()
}

func (w *watched) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	c := &watchedConn{conn, w.gone}
	// What was read ahead must not be lost, and what comes must be seen.
	ahead := rw.Reader.Buffered()
	head, err := rw.Reader.Peek(ahead)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return c, bufio.NewReadWriter(bufio.NewReader(&prefixed{head: append([]byte(nil), head...), conn: c}), bufio.NewWriter(c)), nil
}

// Flush is for handlers that ask for it by type.
func (w *watched) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

type watchedConn struct {
	net.Conn
	gone func()
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.gone()
	}
	return n, err
}

// prefixed reads head first.
type prefixed struct {
	head []byte
	conn net.Conn
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.conn.Read(b)
}
