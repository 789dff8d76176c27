// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/state/store"
)

// Remote names an etcd cluster of its own.
type Remote struct {
	Endpoints          []string // "https://10.0.0.1:2379", "unix:///run/etcd.sock"
	TLS                *tls.Config
	Username, Password string
}

const (
	dialWithin     = 5 * time.Second
	keepaliveEvery = 30 * time.Second
	keepaliveWait  = 10 * time.Second
)

// Open connects to an etcd cluster and asks it one question, so that a wrong address is told here. ctx bounds that only.
func Open(ctx context.Context, r Remote, log *slog.Logger) (*Store, error) {
	c, err := clientv3.New(clientv3.Config{
		Endpoints: r.Endpoints, TLS: r.TLS, Username: r.Username, Password: r.Password,
		DialTimeout: dialWithin, DialKeepAliveTime: keepaliveEvery, DialKeepAliveTimeout: keepaliveWait,
		MaxCallSendMsgSize: 2 * store.MaxBytes, Logger: zapTo(log),
	})
	if err != nil {
		return nil, errs.New(errs.Unavailable, "connect to etcd at %v: %w", r.Endpoints, err)
	}
	s := &Store{client: c, stop: func() {}, closed: make(chan struct{}), short: make(chan struct{}, 1)}
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	if _, _, _, err := s.Get(ctx, "/registry/"); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("connect to etcd at %v: %w", r.Endpoints, err)
	}
	return s, nil
}
