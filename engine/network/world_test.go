// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/nftables"

	"github.com/knarr/knarr/internal/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// world is a machine (the test's own namespace) with a neighbour behind a cable: host 198.51.100.1, outside 198.51.100.2.
type world struct {
	t       *testing.T
	dir     string
	n       *Networks
	outside string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	netnstest.Need(t)
	w := &world{t: t, dir: t.TempDir()}
	w.open()
	t.Cleanup(func() { w.n.Teardown(); w.n.Close() })
	w.outside = w.namespace("outside")
	netnstest.Cable(t, "cable", w.outside, "cable")
	netnstest.Address(t, "", "cable", "198.51.100.1/24")
	netnstest.Address(t, w.outside, "cable", "198.51.100.2/24")
	return w
}

func (w *world) must(err error, but ...error) {
	w.t.Helper()
	if len(but) > 0 {
		if !errors.Is(err, but[0]) {
			w.t.Fatalf("error %v, want %v", err, but[0])
		}
	} else if err != nil {
		w.t.Fatal(err)
	}
}

// open opens the networks again, as a restarted daemon would.
func (w *world) open() {
	w.t.Helper()
	if w.n != nil {
		w.n.Close()
	}
	var err error
	w.n, err = Open(Config{Name: "knt", Dir: filepath.Join(w.dir, "net"), RunDir: filepath.Join(w.dir, "run"), Log: slog.New(slog.NewTextHandler(w.t.Output(), nil))})
	w.must(err)
}

func (w *world) namespace(name string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, "ns", name)
	w.must(w.n.NewNamespace(context.Background(), path))
	w.t.Cleanup(func() { w.n.RemoveNamespace(path) })
	return path
}

// sandbox attaches a new namespace to a network and runs two servers in it, on TCP and UDP port 80, that answer
// "<name> sees <client address>".
func (w *world) sandbox(name, network string, ports ...Port) Endpoint {
	w.t.Helper()
	path := w.namespace(name)
	e, err := w.n.Attach(context.Background(), Attachment{Network: network, Sandbox: name, NetnsPath: path, Ports: ports})
	w.must(err)
	w.serve(path, name, ":80")
	return e
}

func (w *world) serve(ns, name, address string) {
	w.t.Helper()
	netnstest.Serve(w.t, ns, name, address)
}

func (w *world) in(ns string, f func()) {
	w.t.Helper()
	netnstest.In(w.t, ns, f)
}

func (w *world) ask(ns, network, address string) string {
	w.t.Helper()
	return netnstest.Ask(w.t, ns, network, address)
}

func (w *world) expect(what, got, want string) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func (w *world) expectSilence(what, got string) {
	w.t.Helper()
	if strings.Contains(got, " sees ") {
		w.t.Errorf("%s: got %q, want no answer", what, got)
	}
}

func (w *world) bridgeNetfilter(value string) {
	w.t.Helper()
	if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte(value), 0o644); err != nil && value == "1" {
		w.t.Skip("no br_netfilter in this kernel")
	}
}

func port(host, container uint16, proto string) Port {
	return Port{HostPort: host, ContainerPort: container, Protocol: proto}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func flushRuleset(t *testing.T) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	c.FlushRuleset()
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}
