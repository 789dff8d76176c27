// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	pb "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/internal/errs"
)

// maxOutput bounds what ExecSync keeps of each stream: two of them fit a message. What is more is dropped, and the command
// goes on.
const maxOutput = maxMessage/2 - 64<<10

// bounded keeps the first maxOutput bytes.
type bounded struct{ kept []byte }

func (b *bounded) Write(p []byte) (int, error) {
	b.kept = append(b.kept, p[:min(len(p), maxOutput-len(b.kept))]...)
	return len(p), nil
}

// ExecSync runs a command to its end, or to the end of its time, when it is killed.
func (s *Server) ExecSync(ctx context.Context, r *pb.ExecSyncRequest) (*pb.ExecSyncResponse, error) {
	c, err := s.running(r.GetContainerId())
	if err != nil {
		return nil, err
	}
	if len(r.GetCmd()) == 0 {
		return nil, errs.New(errs.Invalid, "no command given")
	}
	limited, cancel := ctx, context.CancelFunc(func() {})
	if r.GetTimeout() > 0 {
		limited, cancel = context.WithTimeout(ctx, time.Duration(r.Timeout)*time.Second)
	}
	defer cancel()
	var out, errOut bounded
	exit, err := s.Containers.Exec(limited, c.ID, container.ExecSpec{Args: r.Cmd}, container.Streams{Stdout: &out, Stderr: &errOut})
	if limited.Err() != nil && ctx.Err() == nil {
		return nil, status.Errorf(codes.DeadlineExceeded, "command %q timed out after %d s", r.Cmd, r.Timeout)
	}
	if err != nil {
		return nil, err
	}
	return &pb.ExecSyncResponse{Stdout: out.kept, Stderr: errOut.kept, ExitCode: int32(exit.Code)}, nil
}

// running finds a container of ours that runs.
func (s *Server) running(id string) (box, error) {
	c, err := s.container(id)
	if err == nil && c.state() != pb.ContainerState_CONTAINER_RUNNING {
		err = errs.New(errs.Conflict, "container %s is %s, not running", c.ID, c.State)
	}
	return c, err
}

// Exec answers where the streams of a command are served.
func (s *Server) Exec(_ context.Context, r *pb.ExecRequest) (*pb.ExecResponse, error) {
	if _, err := s.running(r.GetContainerId()); err != nil {
		return nil, err
	}
	return s.stream.GetExec(r)
}

// Attach answers where the streams of a container are served.
func (s *Server) Attach(_ context.Context, r *pb.AttachRequest) (*pb.AttachResponse, error) {
	if _, err := s.running(r.GetContainerId()); err != nil {
		return nil, err
	}
	return s.stream.GetAttach(r)
}

// PortForward answers where a sandbox's ports are served.
func (s *Server) PortForward(_ context.Context, r *pb.PortForwardRequest) (*pb.PortForwardResponse, error) {
	b, err := s.sandbox(r.GetPodSandboxId())
	if err == nil && !b.Ready {
		err = errs.New(errs.Conflict, "sandbox %s is not ready", b.Spec.ID)
	}
	if err != nil {
		return nil, err
	}
	return s.stream.GetPortForward(r)
}

// streams is what the HTTP side of a stream calls, after it has met the token.
type streams struct{ s *Server }

func (x streams) Exec(ctx context.Context, id string, cmd []string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	c, err := x.s.running(id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	exit, err := x.s.Containers.Exec(ctx, c.ID, container.ExecSpec{Args: cmd, Terminal: tty, Stdin: in != nil}, connect(ctx, in, out, errOut, resize))
	if err == nil && exit.Code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("exit status %d", exit.Code), Code: exit.Code}
	}
	return err
}

func (x streams) Attach(ctx context.Context, id string, in io.Reader, out, errOut io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	c, err := x.s.running(id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return x.s.Containers.Attach(ctx, c.ID, connect(ctx, in, out, errOut, resize), container.AttachOptions{})
}

// connect keeps nil streams nil: an interface that holds a nil pointer is not.
func connect(ctx context.Context, in io.Reader, out, errOut io.WriteCloser, resize <-chan remotecommand.TerminalSize) container.Streams {
	st := container.Streams{Stdin: in}
	if out != nil {
		st.Stdout = out
	}
	if errOut != nil {
		st.Stderr = errOut
	}
	if resize == nil {
		return st
	}
	sizes := make(chan container.Size)
	st.Resize = sizes
	go func() {
		defer close(sizes)
		for {
			select {
			case x, ok := <-resize:
				if !ok {
					return
				}
				select {
				case sizes <- container.Size{Cols: x.Width, Rows: x.Height}:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return st
}

func (x streams) PortForward(ctx context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	if port < 1 || port > 65535 {
		return errs.New(errs.Invalid, "port %d is not between 1 and 65535", port)
	}
	b, err := x.s.sandbox(id)
	if err != nil {
		return err
	}
	conn, err := x.s.Containers.DialSandbox(ctx, b.Spec.ID, uint16(port))
	if err != nil {
		return err
	}
	return join(ctx, stream, conn)
}

// join copies both ways until the container's side has said all, the client is gone, or ctx ends. A client that has ended
// its own direction may still listen.
func join(ctx context.Context, client io.ReadWriteCloser, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { client.Close(); conn.Close() })
	defer stop()
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, client) // what fails here fails the other direction too
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}()
	_, err := io.Copy(client, conn)
	client.Close()
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}
