// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/knarr/knarr/engine/build"
	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/engine/cri"
	"github.com/knarr/knarr/engine/dockerapi"
	"github.com/knarr/knarr/engine/image"
	"github.com/knarr/knarr/engine/network"
	"github.com/knarr/knarr/engine/volume"
	"github.com/knarr/knarr/internal/version"
)

// engine is the container engine's parts, opened in dependency order.
type engine struct {
	images     *image.Store
	networks   *network.Networks
	volumes    *volume.Volumes
	containers *container.Engine
	builder    *build.Builder
	log        *slog.Logger
}

// openEngine recovers the engine of an instance. The caller closes it.
func openEngine(ctx context.Context, cfg Config, log *slog.Logger) (_ *engine, err error) {
	dir := filepath.Join(cfg.DataDir, "engine")
	e := &engine{log: log}
	defer func() {
		if err != nil {
			e.close()
			err = fmt.Errorf("open engine in %s: %w", dir, err)
		}
	}()
	for _, d := range []string{"", "images", "networks", "containers", "build"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	if e.images, err = image.Open(image.Config{Dir: filepath.Join(dir, "images"), Log: log, Registries: cfg.Registries()}); err != nil {
		return nil, err
	}
	if e.networks, err = network.Open(network.Config{
		Name: cfg.Name, Dir: filepath.Join(dir, "networks"), RunDir: filepath.Join(cfg.RunDir, "networks"), Log: log,
		PublishOn: cfg.PublishDefault, HostNames: cfg.DNSListen,
	}); err != nil {
		return nil, err
	}
	if err = e.networks.EnsureDefaults(ctx); err != nil {
		return nil, err
	}
	if e.volumes, err = volume.Open(volume.Config{Dir: filepath.Join(cfg.DataDir, "volumes"), Log: log}); err != nil {
		return nil, err
	}
	if e.containers, err = container.Open(container.Config{
		Name: cfg.Name, Dir: filepath.Join(dir, "containers"), RunDir: filepath.Join(cfg.RunDir, "containers"),
		ShimBinary: cfg.ShimBinary, Images: e.images, Networks: e.networks, Volumes: e.volumes, Log: log,
	}); err != nil {
		return nil, err
	}
	e.builder = build.New(build.Config{
		Dir: filepath.Join(dir, "build"), Images: e.images, Run: e.containers.BuildRunner(), Log: log, CacheBytes: 10 << 30,
	})
	return e, e.builder.Recover()
}

func (e *engine) close() {
	if e.containers != nil {
		e.containers.Close()
	}
	if e.networks != nil {
		e.networks.Close()
	}
	if e.images != nil {
		e.images.Close()
	}
}

// run keeps the engine going and serves the Docker API on sock and the CRI on criSock until ctx ends.
func (e *engine) run(ctx context.Context, cfg Config, sock, criSock net.Listener) error {
	api := dockerapi.New(dockerapi.Config{
		Containers: e.containers, Images: e.images, Networks: e.networks, Volumes: e.volumes, Builder: e.builder,
		Name: cfg.Name, DataDir: cfg.DataDir, Check: e.check,
	}, e.log)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return e.networks.Run(ctx) })
	g.Go(func() error { return e.containers.Run(ctx) })
	server := &http.Server{
		Handler: api, ReadHeaderTimeout: 30 * time.Second, MaxHeaderBytes: 1 << 20, // secrets of builds come in one
		ErrorLog: slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
	}
	g.Go(func() error { return serve(ctx, server, sock) })
	pods := cri.New(cri.Config{Containers: e.containers, Images: e.images, Networks: criNetworks{e.networks}, Version: version.Version, Log: e.log})
	g.Go(func() error { return pods.Run(ctx, criSock) })
	return g.Wait()
}

// listenUnix opens a socket that only root may connect to, in place of one that a dead daemon left. The instance's lock is
// held, so no live one can own it.
func listenUnix(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// serve answers requests on l until ctx ends. Open streams (logs, attach) are cut: the containers behind them go on.
func serve(ctx context.Context, s *http.Server, l net.Listener) error {
	s.BaseContext = func(net.Listener) context.Context { return ctx }
	ended := context.AfterFunc(ctx, func() { s.Close() })
	defer ended()
	if err := s.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}
