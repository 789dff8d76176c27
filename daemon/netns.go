// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	goruntime "runtime"

	"golang.org/x/sys/unix"
)

// dialIn connects to a TCP address as seen from the network namespace pinned at netns; "" is the host's. The socket is made
// in that namespace and stays in it wherever it is used, so only its making needs the thread there.
func dialIn(ctx context.Context, netns, address string) (net.Conn, error) {
	if netns == "" {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	ns, err := os.Open(netns)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// Never unlocked: a thread that has changed its namespace ends with this goroutine.
		goruntime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{err: fmt.Errorf("enter network namespace %s: %w", netns, err)}
			return
		}
		// A dialer that has one address and no fallback makes its socket on the calling goroutine's thread.
		conn, err := (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, "tcp4", address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// splice copies both ways until both directions have ended, one fails, or ctx ends; then it closes both.
func splice(ctx context.Context, a io.ReadWriteCloser, b net.Conn) error {
	stop := context.AfterFunc(ctx, func() { a.Close(); b.Close() })
	defer stop()
	defer a.Close()
	defer b.Close()
	up := make(chan error, 1)
	go func() {
		_, err := io.Copy(b, a)
		if c, ok := b.(interface{ CloseWrite() error }); ok {
			c.CloseWrite()
		}
		up <- err
	}()
	_, down := io.Copy(a, b)
	if c, ok := a.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	} else {
		a.Close()
	}
	err := errors.Join(<-up, down)
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}
