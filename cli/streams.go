// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/knarr/knarr/internal/detach"
)

// terminal is this side's terminal, raw while a container owns it.
type terminal struct {
	fd    int
	state *term.State
	tty   bool
}

// terminal makes stdin raw when the container has a terminal and wants input.
func (e *env) terminal(tty, stdin bool) (*terminal, error) {
	t := &terminal{fd: -1, tty: tty}
	f, ok := e.in.(*os.File)
	if !tty || !ok {
		return t, nil
	}
	if !term.IsTerminal(int(f.Fd())) {
		if stdin {
			return nil, errors.New("the input device is not a TTY; leave -t out")
		}
		return t, nil
	}
	t.fd = int(f.Fd())
	if stdin {
		state, err := term.MakeRaw(t.fd)
		if err != nil {
			return nil, err
		}
		t.state = state
	}
	return t, nil
}

// restore undoes raw mode; it may be called again.
func (t *terminal) restore() {
	if t.state != nil {
		term.Restore(t.fd, t.state)
		t.state = nil
	}
}

// follow tells the size of the terminal now and at each change, until the returned function is called.
func (t *terminal) follow(ctx context.Context, resize func(rows, cols uint)) func() {
	if t.fd < 0 {
		return func() {}
	}
	tell := func() {
		if cols, rows, err := term.GetSize(t.fd); err == nil {
			resize(uint(rows), uint(cols))
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	go func() {
		defer signal.Stop(changed)
		tell()
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
				tell()
			}
		}
	}()
	return cancel
}

// pipe copies between this process's streams and a hijacked connection until the output ends, or the person types keys on
// a terminal, which is detach.ErrDetached. The end of the input closes only that direction.
func (e *env) pipe(conn client.HijackedResponse, stdin, tty bool, keys []byte) error {
	ended := make(chan error, 2)
	if stdin {
		if !tty {
			keys = nil
		}
		go func() {
			if _, err := io.Copy(conn.Conn, detach.NewReader(e.in, keys)); errors.Is(err, detach.ErrDetached) {
				ended <- err
				return
			}
			conn.CloseWrite()
		}()
	}
	go func() { ended <- e.output(conn.Reader, tty) }()
	return <-ended
}

// detachKeys adds the flag and answers what reads it.
func detachKeys(f interface {
	StringVar(p *string, name, value, usage string)
}) func() ([]byte, error) {
	var text string
	f.StringVar(&text, "detach-keys", "", "keys that leave the container running (default "+detach.Default+")")
	return func() ([]byte, error) {
		keys, err := detach.Parse(text)
		if err != nil {
			return nil, usageError{err}
		}
		return keys, nil
	}
}

// left tells a person who detached how to come back.
func (e *env) left(ref string) {
	fmt.Fprintf(e.err, "\ndetached; %s goes on: knarr attach %s\n", ref, ref)
}

// output copies a container's output: a terminal's as it is, else taken apart into stdout and stderr.
func (e *env) output(r io.Reader, tty bool) error {
	var err error
	if tty {
		_, err = io.Copy(e.out, r)
	} else {
		_, err = stdcopy.StdCopy(e.out, e.err, r)
	}
	return err
}

// forwardSignals hands this process's signals to the container until the returned function is called.
func (e *env) forwardSignals(ctx context.Context, c *client.Client, id string) func() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				c.ContainerKill(context.WithoutCancel(ctx), id, client.ContainerKillOptions{Signal: unix.SignalName(s.(syscall.Signal))})
			case <-done:
				return
			}
		}
	}()
	return func() { signal.Stop(signals); close(done) }
}
