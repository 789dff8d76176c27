// SPDX-License-Identifier: Apache-2.0

package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

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
	f, err := os.Open(w.outside)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "cable"
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = "cable", netlink.NsFd(f.Fd())
	w.must(netlink.LinkAdd(veth))
	t.Cleanup(func() { netlink.LinkDel(veth) })
	w.address("cable", "198.51.100.1/24")
	w.in(w.outside, func() { w.address("cable", "198.51.100.2/24") })
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

func (w *world) address(link, addr string) {
	w.t.Helper()
	l, err := netlink.LinkByName(link)
	w.must(err)
	a, err := netlink.ParseAddr(addr)
	w.must(err)
	w.must(netlink.AddrAdd(l, a))
	w.must(netlink.LinkSetUp(l))
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
	w.in(ns, func() {
		l, err := net.Listen("tcp4", address)
		w.must(err)
		w.t.Cleanup(func() { l.Close() })
		u, err := net.ListenPacket("udp4", address)
		w.must(err)
		w.t.Cleanup(func() { u.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprintf(c, "%s sees %s\n", name, c.RemoteAddr().(*net.TCPAddr).IP)
				c.Close()
			}
		}()
		go func() {
			buf := make([]byte, 100)
			for {
				_, from, err := u.ReadFrom(buf)
				if err != nil {
					return
				}
				u.WriteTo([]byte(name+" sees "+from.(*net.UDPAddr).IP.String()), from)
			}
		}()
	})
}

// in runs f on a thread in the namespace. Sockets opened there stay there.
func (w *world) in(ns string, f func()) {
	w.t.Helper()
	if ns == "" {
		f()
		return
	}
	fd, err := os.Open(ns)
	w.must(err)
	defer fd.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(fd.Fd()), unix.CLONE_NEWNET); err != nil {
			w.t.Error(err)
			return
		}
		f()
	}()
	<-done
}

// ask connects from a namespace ("" is the host) and returns the answer, or the error's text.
func (w *world) ask(ns, network, address string) (answer string) {
	w.in(ns, func() {
		c, err := net.DialTimeout(network, address, 700*time.Millisecond)
		if err != nil {
			answer = err.Error()
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(700 * time.Millisecond))
		if strings.HasPrefix(network, "udp") {
			io.WriteString(c, "hello")
			buf := make([]byte, 100)
			n, err := c.Read(buf)
			answer = string(buf[:n])
			if err != nil {
				answer = err.Error()
			}
			return
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		answer = strings.TrimSpace(line)
		if err != nil {
			answer = err.Error()
		}
	})
	return answer
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
