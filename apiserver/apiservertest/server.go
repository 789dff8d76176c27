// SPDX-License-Identifier: Apache-2.0

// Package apiservertest runs a real API server for tests: HTTPS on a loopback port, RBAC, admission, on store/mem.
//
// There are no controllers: a namespace gets its ServiceAccount default only if the test makes one (Account).
package apiservertest

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/apiserver"
	"github.com/knarr/knarr/apiserver/auth"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/client"
	"github.com/knarr/knarr/state/store"
	"github.com/knarr/knarr/state/store/mem"
)

// Server is a running API server; the test's end stops it.
type Server struct {
	*apiserver.Server
	URL        string      // HTTPS
	Kubeconfig string      // path of a kubeconfig for the admin
	Admin      client.Doer // the API as the admin, in process
	Store      store.Store // what it runs on
}

// New starts an API server and returns when it is ready. Options may change the configuration before.
func New(t testing.TB, options ...func(*apiserver.Config)) *Server {
	t.Helper()
	dir := t.TempDir()
	cfg := apiserver.Config{
		Store: mem.New(), DataDir: dir, Listen: "127.0.0.1:0", AdvertiseIP: netip.MustParseAddr("192.0.2.1"),
	}
	for _, o := range options {
		o(&cfg)
	}
	s, err := apiserver.New(cfg, slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("API server: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("API server: Run did not end")
		}
		if err := s.Cache().Verify(); err != nil {
			t.Error(err)
		}
		_ = cfg.Store.Close()
	})
	select {
	case <-s.Ready():
	case err := <-ended:
		ended <- err
		t.Fatalf("API server: %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("API server: not ready")
	}
	kubeconfig, err := s.Kubeconfig(auth.Admin())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(path, kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	return &Server{Server: s, Store: cfg.Store, URL: s.URL(), Kubeconfig: path, Admin: s.As(auth.Admin())}
}

// Account makes the ServiceAccount default of a namespace, as its controller would.
func (s *Server) Account(t testing.TB, namespace string) {
	t.Helper()
	_, err := s.Admin.Do(t.Context(), client.Request{
		Verb: client.Create, Type: kinds.For[corev1.ServiceAccount](), Namespace: namespace,
		Object: &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: namespace}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// testLog writes a log into a test's output.
type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Logf("%s", b)
	return len(b), nil
}
