// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/knarr/knarr/state/store"
	"github.com/knarr/knarr/state/store/storetest"
)

func open(t testing.TB, dir string) *Store {
	s, err := OpenEmbedded(context.Background(), Embedded{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEmbeddedConformance(t *testing.T) {
	storetest.Run(t, storetest.Suite{Open: func(t *testing.T, dir string) store.Store { return open(t, dir) }, Durable: true})
}

func TestStartTime(t *testing.T) {
	dir := t.TempDir()
	for _, what := range []string{"an empty folder", "an existing folder"} {
		begin := time.Now()
		s := open(t, dir)
		opened := time.Since(begin)
		if _, _, err := s.Txn(t.Context(), nil, []store.Op{{Key: "/registry/x", Value: []byte("1")}}); err != nil {
			t.Fatal(err)
		}
		t.Logf("open %s: %v, first write after %v", what, opened, time.Since(begin))
		begin = time.Now()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		t.Logf("close: %v", time.Since(begin))
	}
}

func BenchmarkTxn(b *testing.B) {
	s := open(b, b.TempDir())
	defer s.Close()
	value := make([]byte, 1000)
	for b.Loop() {
		if _, _, err := s.Txn(b.Context(), nil, []store.Op{{Key: "/registry/x", Value: value}}); err != nil {
			b.Fatal(err)
		}
	}
}
