// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/apiserver"
	"github.com/knarr/knarr/apiserver/apiservertest"
	"github.com/knarr/knarr/state/store/etcd"
)

// TestOnEtcd starts twice on the same embedded etcd: what was written is there, and the second start writes nothing.
func TestOnEtcd(t *testing.T) {
	dir, keys := t.TempDir(), t.TempDir()
	version, listen := "", "127.0.0.1:0"
	for range 2 {
		t.Run("start", func(t *testing.T) {
			begun := time.Now()
			st, err := etcd.OpenEmbedded(t.Context(), etcd.Embedded{Dir: dir}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			opened := time.Since(begun)
			s := apiservertest.New(t, func(c *apiserver.Config) { c.Store, c.Listen, c.DataDir = st, listen, keys })
			listen = strings.TrimPrefix(s.URL, "https://")
			t.Logf("etcd %s, API server %s", opened, time.Since(begun)-opened)
			registered(t, s)
			l, err := clientset(t, s).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
			if err != nil || len(l.Items) != 4 {
				t.Fatalf("namespaces: %v, %v", l, err)
			}
			if version != "" && l.ResourceVersion != version {
				t.Errorf("the second start wrote: revision %s, then %s", version, l.ResourceVersion)
			}
			version = l.ResourceVersion
		})
	}
}
