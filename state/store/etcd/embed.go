// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"expvar"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/config"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/features"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/store"
)

// Embedded says how the store in this process runs. Dir is needed; zero values elsewhere work.
type Embedded struct {
	Dir   string // the data folder; made if missing
	Quota int64  // bytes the database may grow to; the last tenth is for deletions; 0: 2 GiB
}

const (
	memberName    = "knarr"
	defaultQuota  = 2 << 30
	startWithin   = 30 * time.Second
	campaignEvery = time.Millisecond // how often to see whether the member can become the leader
)

// starting is held while a server starts: see lead.
var starting sync.Mutex

// OpenEmbedded starts a single etcd member in this process and returns when it can be written to: on an empty folder after
// some 20 ms. Nothing listens on any address. ctx bounds the start only.
func OpenEmbedded(ctx context.Context, e Embedded, log *slog.Logger) (*Store, error) {
	cfg, err := e.config(log)
	if err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", e.Dir, err)
	}
	starting.Lock()
	defer starting.Unlock()
	server, err := etcdserver.NewServer(cfg)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "open the store in %s: %w", e.Dir, err)
	}
	server.Start()
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if err := lead(ctx, server); err != nil {
		server.HardStop()
		return nil, errs.New(errs.Unavailable, "open the store in %s: %w", e.Dir, err)
	}
	return &Store{
		client: v3client.New(server), stop: server.Stop, closed: make(chan struct{}), short: make(chan struct{}, 1),
		own: &own{backend: server.Backend(), quota: cfg.QuotaBackendBytes},
	}, nil
}

// lead makes the only member the leader at once instead of after an election timeout (a second or more with the slow ticks
// below), by the message a leader sends to its successor.
//
// It may only be sent when raft has nothing left to replay: it would read the replayed entries again, and panics when etcd
// has dropped them meanwhile. Raft knows, and tells through etcd's debugging variable alone; that shows the server that was
// made last, which is why servers start one after another.
func lead(ctx context.Context, s *etcdserver.EtcdServer) error {
	again := time.NewTicker(campaignEvery)
	defer again.Stop()
	id := uint64(s.MemberID())
	for s.Leader() == 0 {
		if replayed() {
			if err := s.Process(ctx, &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), To: &id, From: &id}); err != nil {
				return err
			}
		}
		select {
		case <-again.C:
		case <-s.StopNotify():
			return errs.New(errs.Unavailable, "etcd stopped while starting")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	select {
	case <-s.ReadyNotify():
		return nil
	case <-s.StopNotify():
		return errs.New(errs.Unavailable, "etcd stopped while starting")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// replayed: raft has applied all that was committed. When it cannot be asked, it is never so, and the election comes by time.
func replayed() bool {
	status, ok := expvar.Get("raft.status").(expvar.Func)
	if !ok {
		return false
	}
	st, ok := status.Value().(raft.Status)
	return ok && st.HardState != nil && st.Applied > 0 && st.Applied >= st.GetCommit()
}

// config chooses for one member in a small process. Where a number differs from etcd's default, the reason stands there.
func (e Embedded) config(log *slog.Logger) (config.ServerConfig, error) {
	if err := os.MkdirAll(filepath.Join(e.Dir, "member"), 0o700); err != nil {
		return config.ServerConfig{}, err
	}
	quota := e.Quota
	if quota <= 0 {
		quota = defaultQuota
	}
	zl := zapTo(log)
	// An address is part of a member's identity; nobody listens on it.
	self := types.URLs{url.URL{Scheme: "http", Host: "127.0.0.1:2380"}}
	return config.ServerConfig{
		Name: memberName, DataDir: e.Dir, Logger: zl,
		PeerURLs: self, ClientURLs: self,
		InitialPeerURLsMap: types.URLsMap{memberName: self}, InitialClusterToken: memberName, NewCluster: true,

		// A lone member has nobody to send heartbeats to; ticks only wake the machine up.
		TickMs: 500, ElectionTicks: 10, InitialElectionTickAdvance: true,
		// Entries are kept in memory until the next snapshot, plus these for followers, of which there are none.
		SnapshotCount: 2000, SnapshotCatchUpEntries: 100, MaxSnapFiles: 2, MaxWALFiles: 2,
		// When the database itself is synced; until then the log has everything. Less often means fewer disk writes.
		BackendBatchInterval: time.Second, BackendBatchLimit: 2000,
		CompactionBatchLimit: 1000, CompactionSleepInterval: 10 * time.Millisecond,
		QuotaBackendBytes: quota,

		MaxTxnOps: store.MaxOps * 2, MaxRequestBytes: store.MaxBytes, MaxConcurrentStreams: 1 << 20,
		WarningApplyDuration: time.Second, WarningUnaryRequestDuration: 3 * time.Second,
		WatchProgressNotifyInterval: time.Minute, DowngradeCheckTime: time.Hour, CompactHashCheckTime: time.Hour,
		StrictReconfigCheck: true, PreVote: true, MaxLearners: 1,
		AuthToken: "simple", TokenTTL: 300, BcryptCost: 10,
		V2Deprecation: config.V2DeprDefault, ServerFeatureGate: features.NewDefaultServerFeatureGate(memberName, zl),
		Metrics: "basic",
	}, nil
}
