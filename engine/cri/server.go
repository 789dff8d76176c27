// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	pb "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/engine/image"
)

// maxMessage is what a kubelet takes, and so what it may send.
const maxMessage = 16 << 20

// Networks is where sandboxes get their addresses.
type Networks interface {
	// PodNetwork is the name of the engine network that sandboxes join.
	PodNetwork() string
	// SetPodCIDR makes that network one of its own, with addresses from cidr.
	SetPodCIDR(ctx context.Context, cidr netip.Prefix) error
}

// Config is what a Server translates to.
type Config struct {
	Containers *container.Engine
	Images     *image.Store
	Networks   Networks
	Version    string // of this runtime, as Version answers it
	Log        *slog.Logger
}

// Server answers both services of the interface.
type Server struct {
	pb.UnimplementedRuntimeServiceServer
	pb.UnimplementedImageServiceServer
	Config

	making sync.Mutex // held while a sandbox's name is looked for and taken

	stream streaming.Server // set by Run, before the first request
}

// New makes a server that Run starts.
func New(c Config) *Server {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{Config: c}
}

// Run serves on sock until ctx ends. Streams (exec, attach, port-forward) have a listener of their own on loopback: who asks
// for one over gRPC is given a URL with a token that is good once, and for a minute.
func (s *Server) Run(ctx context.Context, sock net.Listener) error {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for streams: %w", err)
	}
	conf := streaming.DefaultConfig
	conf.Addr = tcp.Addr().String()
	conf.BaseURL = &url.URL{Scheme: "http", Host: conf.Addr}
	if s.stream, err = streaming.NewServer(conf, streams{s}); err != nil {
		tcp.Close()
		return err
	}
	web := &http.Server{Handler: s.stream, ReadHeaderTimeout: 30 * time.Second, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)}
	rpc := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.streaming),
	)
	pb.RegisterRuntimeServiceServer(rpc, s)
	pb.RegisterImageServiceServer(rpc, s)
	g, ctx := errgroup.WithContext(ctx)
	web.BaseContext = func(net.Listener) context.Context { return ctx }
	g.Go(func() error {
		if err := web.Serve(tcp); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve streams: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		if err := rpc.Serve(sock); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serve %s: %w", sock.Addr(), err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		web.Close()
		rpc.Stop()
		return nil
	})
	return g.Wait()
}
