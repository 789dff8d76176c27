// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"path/filepath"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/store"
	"github.com/knarr/knarr/state/store/storetest"
)

// serve runs an ordinary etcd server that listens on a socket in dir, until the test ends.
func serve(t *testing.T, dir string) (endpoint string) {
	socket := func(name string) []url.URL { return []url.URL{{Scheme: "unix", Path: filepath.Join(dir, name)}} }
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "data")
	cfg.ListenPeerUrls, cfg.ListenClientUrls = socket("peer"), socket("client")
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2380"}}
	cfg.AdvertiseClientUrls = socket("client")
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.TickMs, cfg.ElectionMs = 10, 50
	cfg.MaxTxnOps, cfg.MaxRequestBytes = 2*store.MaxOps, store.MaxBytes
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapTo(slog.New(slog.DiscardHandler)))
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	return "unix://" + filepath.Join(dir, "client")
}

func TestRemoteConformance(t *testing.T) {
	storetest.Run(t, storetest.Suite{Open: func(t *testing.T, dir string) store.Store {
		endpoint := serve(t, dir)
		s, err := Open(t.Context(), Remote{Endpoints: []string{endpoint}}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}})
}

func TestOpenTellsWhenNobodyAnswers(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 0, context.DeadlineExceeded)
	defer cancel()
	_, err := Open(ctx, Remote{Endpoints: []string{"unix://" + filepath.Join(t.TempDir(), "none")}}, slog.New(slog.DiscardHandler))
	if err == nil || (!errors.Is(err, errs.Unavailable) && !errors.Is(err, context.DeadlineExceeded)) {
		t.Fatalf("error %v", err)
	}
}
