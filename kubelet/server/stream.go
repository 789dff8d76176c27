// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kubelet/podruntime"
)

const (
	idleTimeout   = 4 * time.Hour
	createTimeout = 30 * time.Second // for a client to open its streams
)

// process is what runs behind the streams of an exec or attach; 0 and nil when it ended well.
type process func(ctx context.Context, tty bool, s podruntime.Stdio) (exitCode int, err error)

func (s *server) exec(w http.ResponseWriter, r *http.Request) {
	c, ok := s.running(w, r)
	if !ok {
		return
	}
	command := r.URL.Query()["command"]
	if len(command) == 0 {
		s.fail(w, r, errs.New(errs.Invalid, "you must specify at least 1 command for the container"))
		return
	}
	s.remoteCommand(w, r, func(ctx context.Context, tty bool, io podruntime.Stdio) (int, error) {
		return s.rt.Exec(ctx, c.ID, podruntime.ExecSpec{Args: command, Terminal: tty, Stdin: io.Stdin != nil}, io)
	})
}

func (s *server) attach(w http.ResponseWriter, r *http.Request) {
	c, ok := s.running(w, r)
	if !ok {
		return
	}
	s.remoteCommand(w, r, func(ctx context.Context, tty bool, io podruntime.Stdio) (int, error) {
		return 0, s.rt.Attach(ctx, c.ID, tty, io)
	})
}

// running finds the container of the path; it must run.
func (s *server) running(w http.ResponseWriter, r *http.Request) (podruntime.Container, bool) {
	c, err := s.pods.Container(r.Context(), r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container"), false)
	if err == nil && c.State != podruntime.Running {
		err = errs.New(errs.Invalid, "container %s of pod %s is not running", r.PathValue("container"), r.PathValue("pod"))
	}
	if err != nil {
		s.fail(w, r, err)
		return c, false
	}
	return c, true
}

// options reads which streams are wanted, in the kubelet's words (input=1) or the API's (stdin=true).
func options(q url.Values) (*remotecommand.Options, error) {
	o := &remotecommand.Options{
		Stdin: flag(q, "input") || flag(q, "stdin"), Stdout: flag(q, "output") || flag(q, "stdout"),
		Stderr: flag(q, "error") || flag(q, "stderr"), TTY: flag(q, "tty"),
	}
	o.Stderr = o.Stderr && !o.TTY // a terminal has one output
	if !o.Stdin && !o.Stdout && !o.Stderr {
		return nil, errs.New(errs.Invalid, "you must specify at least 1 of stdin, stdout, stderr")
	}
	return o, nil
}

func (s *server) remoteCommand(w http.ResponseWriter, r *http.Request, run process) {
	o, err := options(r.URL.Query())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	w, r = &watched{ResponseWriter: w, gone: cancel}, r.WithContext(ctx)
	if wantsChannels(r) {
		s.channels(w, r, o, run)
		return
	}
	remotecommand.ServeExec(w, r, executor{run}, "", "", "", nil, o, idleTimeout, createTimeout, remotecommand.SupportedStreamingProtocols)
}

// executor lets cri-streaming run a process.
type executor struct{ run process }

func (e executor) ExecInContainer(ctx context.Context, _, _, _ string, _ []string, in io.Reader, out, errOut io.WriteCloser, tty bool,
	resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	code, err := e.run(ctx, tty, stdio(ctx, in, out, errOut, resize))
	if err == nil && code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("exit status %d", code), Code: code}
	}
	return err
}

// stdio keeps nil streams nil: an interface that holds a nil pointer is not.
func stdio(ctx context.Context, in io.Reader, out, errOut io.Writer, resize <-chan remotecommand.TerminalSize) podruntime.Stdio {
	s := podruntime.Stdio{Stdin: in, Stdout: out, Stderr: errOut}
	if resize != nil {
		sizes := make(chan podruntime.Size)
		s.Resize = sizes
		go func() {
			defer close(sizes)
			for {
				select {
				case x, ok := <-resize:
					if !ok {
						return
					}
					select {
					case sizes <- podruntime.Size{Cols: x.Width, Rows: x.Height}:
					case <-ctx.Done():
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	return s
}

func (s *server) portForward(w http.ResponseWriter, r *http.Request) {
	id, err := s.pods.Sandbox(r.Context(), r.PathValue("namespace"), r.PathValue("pod"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	forward := forwarder{s.rt, ctx, id}
	if wantsTunnel(r) {
		s.tunnel(w, r, forward)
		return
	}
	o, err := portforward.NewV4Options(r)
	if err != nil {
		s.fail(w, r, errs.New(errs.Invalid, "%w", err))
		return
	}
	portforward.ServePortForward(&watched{ResponseWriter: w, gone: cancel}, r.WithContext(ctx), forward, "", "", o, idleTimeout, createTimeout,
		portforward.SupportedProtocols)
}

// forwarder lets cri-streaming reach a sandbox. Its WebSocket half hands over a context of its own that never ends, so the
// request's is kept here: the value lives no longer than the request.
type forwarder struct {
	rt      podruntime.Streams
	request context.Context
	sandbox string
}

func (f forwarder) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	return f.rt.PortForward(f.request, f.sandbox, uint16(port), stream)
}
