// SPDX-License-Identifier: Apache-2.0

package netnstest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Namespace makes a further namespace with lo up, as another machine or a pod, and returns the path where it is pinned.
func Namespace(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "netns")
	must(t, os.WriteFile(path, nil, 0o600))
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		done <- err
	}()
	must(t, <-done)
	t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

// In runs f on a thread in the namespace at path ("" is the test's own). Sockets opened there stay there. f must not call
// t.Fatal.
func In(t testing.TB, path string, f func()) {
	t.Helper()
	if path == "" {
		f()
		return
	}
	ns, err := os.Open(path)
	must(t, err)
	defer ns.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Errorf("enter %s: %v", path, err)
			return
		}
		f()
	}()
	<-done
}

// Cable connects the test's own namespace, by a link of that name, with the one at path.
func Cable(t testing.TB, name, path, peer string) {
	t.Helper()
	ns, err := os.Open(path)
	must(t, err)
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = peer, netlink.NsFd(ns.Fd())
	must(t, netlink.LinkAdd(veth))
	t.Cleanup(func() { netlink.LinkDel(veth) })
}

// Address gives a link an address and brings it up.
func Address(t testing.TB, path, link, address string) {
	t.Helper()
	In(t, path, func() {
		l, err := netlink.LinkByName(link)
		if err == nil {
			var a *netlink.Addr
			if a, err = netlink.ParseAddr(address); err == nil {
				if a.IP.To4() == nil {
					a.Flags = unix.IFA_F_NODAD // usable at once
				}
				err = netlink.AddrReplace(l, a)
			}
		}
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Errorf("give %s to %s: %v", address, link, err)
		}
	})
}

// Serve runs servers on TCP and UDP in a namespace that answer "<name> sees <client's IP>", until the test ends.
func Serve(t testing.TB, path, name, address string) {
	t.Helper()
	In(t, path, func() {
		family := "4"
		if strings.HasPrefix(address, ":") {
			family = "" // whatever the link has
		}
		l, err := net.Listen("tcp"+family, address)
		if err != nil {
			t.Error(err)
			return
		}
		u, err := net.ListenPacket("udp"+family, address)
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { l.Close(); u.Close() })
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

// patience is how long Ask waits for an answer that should come in microseconds, or never.
const patience = 700 * time.Millisecond

// Ask connects from a namespace and returns what Serve answers, or the error's text.
func Ask(t testing.TB, path, network, address string) (answer string) {
	t.Helper()
	In(t, path, func() {
		c, err := net.DialTimeout(network, address, patience)
		if err != nil {
			answer = err.Error()
			return
		}
		defer c.Close()
		answer = AskOn(c)
	})
	return answer
}

// AskOn asks once more on a connection.
func AskOn(c net.Conn) string {
	c.SetDeadline(time.Now().Add(patience))
	if _, udp := c.(*net.UDPConn); udp {
		io.WriteString(c, "hello")
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		if err != nil {
			return err.Error()
		}
		return string(buf[:n])
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(line)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
