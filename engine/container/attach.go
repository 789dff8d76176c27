// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/knarr/knarr/engine/shim"
	"github.com/knarr/knarr/internal/errs"
)

// ErrDetach may be answered by a Streams.Stdin to leave the process while it goes on; Attach and ExecStart then return it.
var ErrDetach = errors.New("detached from the process")

// AttachOptions of Attach.
type AttachOptions struct {
	Logs  bool   // replay the log first
	Ready func() // called once when attached
}

// pendingAttach waits for a container to start.
type pendingAttach struct {
	o  shim.AttachOptions
	ch chan attached // has room for one
}

type attached struct {
	streams *shim.Streams
	client  *shim.Client
	err     error
}

// Attach connects s with the container's own process until it exits or ctx ends; with Spec.StdinOnce the end of s.Stdin
// closes its input. A container that does not run yet is attached when it starts: o.Ready is called as soon as
// nothing of its output can be missed. With o.Logs what was written before comes first.
func (e *Engine) Attach(ctx context.Context, ref string, s Streams, o AttachOptions) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	spec := c.record().Spec
	// A terminal's input has no end that the caller could pass on, and detaching from it must not make one.
	a, wait, err := c.attach(ctx, shim.AttachOptions{Stdin: s.Stdin != nil && spec.OpenStdin, Stdout: s.Stdout != nil,
		Stderr: s.Stderr != nil && !spec.Terminal, StdinOnce: spec.StdinOnce && !spec.Terminal})
	if err != nil {
		return err
	}
	now := time.Now()
	if o.Ready != nil {
		o.Ready()
	}
	if o.Logs {
		if err := e.replay(ctx, c, s, now); err != nil {
			if a.streams != nil {
				a.streams.Close()
			}
			return err
		}
	}
	if wait != nil {
		if a, err = c.awaitStart(ctx, wait); err != nil {
			return err
		}
	}
	resize := func(size Size) { _ = a.client.Resize(ctx, "", size.Cols, size.Rows) }
	return pump(ctx, a.streams, s, resize)
}

// attach connects at once, or registers to be connected by the next start.
func (c *entry) attach(ctx context.Context, o shim.AttachOptions) (attached, *pendingAttach, error) {
	if client := c.live(); client != nil {
		streams, err := client.Attach(ctx, o)
		return attached{streams: streams, client: client}, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.st.State == Removing || c.st.State == Dead {
		return attached{}, nil, errs.New(errs.Conflict, "container %s is being removed", c.id)
	}
	p := &pendingAttach{o: o, ch: make(chan attached, 1)}
	c.pending = append(c.pending, p)
	return attached{}, p, nil
}

func (c *entry) awaitStart(ctx context.Context, p *pendingAttach) (attached, error) {
	select {
	case a := <-p.ch:
		return a, a.err
	case <-c.gone.ch:
		return attached{}, errs.New(errs.NotFound, "No such container: %s", c.id)
	case <-ctx.Done():
	}
	c.mu.Lock()
	c.pending = slices.DeleteFunc(c.pending, func(o *pendingAttach) bool { return o == p })
	c.mu.Unlock()
	select {
	case a := <-p.ch: // it came after all
		if a.streams != nil {
			a.streams.Close()
		}
	default:
	}
	return attached{}, context.Cause(ctx)
}

func (c *entry) takePending() []*pendingAttach {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.pending
	c.pending = nil
	return list
}

// deliverPending connects those who wait, between creation and start: nothing of the output is missed.
func (c *entry) deliverPending(ctx context.Context, client *shim.Client) {
	for _, p := range c.takePending() {
		streams, err := client.Attach(ctx, p.o)
		p.ch <- attached{streams: streams, client: client, err: err}
	}
}

func (c *entry) failPending(err error) {
	for _, p := range c.takePending() {
		p.ch <- attached{err: err}
	}
}

// replay writes what the log has up to a moment.
func (e *Engine) replay(ctx context.Context, c *entry, s Streams, until time.Time) error {
	var failed error
	if c.record().Spec.NoLog {
		return nil
	}
	o := LogOptions{Stdout: s.Stdout != nil, Stderr: s.Stderr != nil, Until: until, Tail: -1}
	err := e.readLog(ctx, c, o, func(l LogLine) bool {
		to := s.Stdout
		if l.Stream == "stderr" {
			to = s.Stderr
		}
		_, failed = to.Write(l.Data)
		return failed == nil
	})
	return errors.Join(err, failed)
}

// pump copies between a process and a caller until the process has closed its output, the caller can take no more, detaches,
// or ctx ends. The copy of stdin ends when s.Stdin does: the caller closes what is behind it after pump has returned.
func pump(ctx context.Context, p *shim.Streams, s Streams, resize func(Size)) error {
	done := make(chan struct{})
	defer close(done)
	left := make(chan error, 3)
	if p.Stdin != nil && s.Stdin != nil {
		go func() {
			_, err := io.Copy(p.Stdin, s.Stdin)
			if errors.Is(err, ErrDetach) {
				left <- err
				return
			}
			p.Stdin.Close()
		}()
	}
	if s.Resize != nil {
		go func() {
			for {
				select {
				case size, ok := <-s.Resize:
					if !ok {
						return
					}
					resize(size)
				case <-done:
					return
				}
			}
		}()
	}
	s.Stdout, s.Stderr = oneAtATime(s.Stdout, s.Stderr)
	var outputs sync.WaitGroup
	copyOut := func(to io.Writer, from io.Reader) {
		if to == nil || from == nil {
			return
		}
		outputs.Go(func() {
			if _, err := io.Copy(to, from); err != nil {
				left <- err
			}
		})
	}
	if p.Stdout != nil {
		copyOut(s.Stdout, p.Stdout)
	}
	if p.Stderr != nil {
		copyOut(s.Stderr, p.Stderr)
	}
	ended := make(chan struct{})
	go func() { outputs.Wait(); close(ended) }()
	var err error
	select {
	case <-ended:
	case err = <-left:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	err = errors.Join(err, ignoreClosed(p.Close()))
	// The caller may use its writers again: nothing is written any more, but for a write that the caller's side holds up.
	timer := time.NewTimer(writePatience)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	}
	return err
}

const writePatience = time.Second

// oneAtATime guards a writer that is given for both streams, as os/exec does.
func oneAtATime(a, b io.Writer) (io.Writer, io.Writer) {
	if a == nil || b == nil || !reflect.TypeOf(a).Comparable() || !reflect.TypeOf(b).Comparable() || a != b {
		return a, b
	}
	w := &lockedWriter{w: a}
	return w, w
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func ignoreClosed(err error) error {
	if errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// Resize sets the size of the container's terminal.
func (e *Engine) Resize(ctx context.Context, ref string, s Size) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	client := c.live()
	if client == nil {
		return errs.New(errs.Conflict, "cannot resize a stopped container: container %s is not running", c.id)
	}
	return client.Resize(ctx, "", s.Cols, s.Rows)
}
