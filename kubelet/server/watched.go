// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"net"
	"net/http"
	"sync"
)

// watched tells when the client of a taken-over connection goes away. net/http watches a connection only while it reads
// it itself, and SPDY stops reading at the client's farewell while the process goes on: so we read ahead all the time.
type watched struct {
	http.ResponseWriter
	gone func()
}

func (w *watched) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	ahead := rw.Reader.Buffered() // what net/http has read already
	head, err := rw.Reader.Peek(ahead)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	c := watch(conn, append([]byte(nil), head...), w.gone)
	return c, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c)), nil
}

// Flush is for handlers that ask for it by type.
func (w *watched) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// aheadConn is a connection whose end is noticed when it comes, not when somebody reads as far.
type aheadConn struct {
	net.Conn
	chunks chan []byte // closed at the end, after err is set
	closed chan struct{}
	once   sync.Once
	err    error
	rest   []byte // of the chunk being read; one reader at a time
}

// How far it reads ahead: a client that sends more before it leaves is noticed later.
const (
	chunkSize = 16 << 10
	chunks    = 4
)

// watch starts the goroutine that reads; it ends with the connection.
func watch(conn net.Conn, head []byte, gone func()) *aheadConn {
	c := &aheadConn{Conn: conn, chunks: make(chan []byte, chunks), closed: make(chan struct{}), rest: head}
	go func() {
		defer gone()
		defer close(c.chunks)
		for {
			buf := make([]byte, chunkSize)
			n, err := conn.Read(buf)
			if n > 0 {
				select {
				case c.chunks <- buf[:n]:
				case <-c.closed:
					c.err = net.ErrClosed
					return
				}
			}
			if err != nil {
				c.err = err
				return
			}
		}
	}()
	return c
}

func (c *aheadConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		chunk, ok := <-c.chunks
		if !ok {
			return 0, c.err
		}
		c.rest = chunk
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *aheadConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
