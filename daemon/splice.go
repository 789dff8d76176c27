// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"io"
	"net"
)

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
