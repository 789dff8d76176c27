// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// cluster is a server and an agent, each in a network namespace of its own.
type cluster struct {
	root, dir     string
	server, agent *machine
}

// machine is one node: a namespace, and an instance of Knarr in it.
type machine struct {
	name, ip, dir string
	bin           string
	ns            netns.NsHandle
}

func (c *cluster) kubeconfig() string { return filepath.Join(c.server.dir, "data", "kubeconfig") }

func (m *machine) socket() string { return "unix://" + filepath.Join(m.dir, "run", "engine.sock") }

func (m *machine) flags() []string {
	return []string{"--name", m.name, "--data-dir", filepath.Join(m.dir, "data"), "--run-dir", filepath.Join(m.dir, "run")}
}

// startCluster returns a cluster to stop, also with an error.
func startCluster(ctx context.Context, o options) (*cluster, error) {
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return nil, err
	}
	c := &cluster{root: o.root, dir: dir}
	tag := fmt.Sprintf("%04x", os.Getpid()&0xffff)
	bin := filepath.Join(o.root, "bin", "knarr")
	c.server = &machine{name: "cs" + tag, ip: "192.168.77.1", dir: filepath.Join(dir, "server"), bin: bin, ns: netns.None()}
	c.agent = &machine{name: "ca" + tag, ip: "192.168.77.2", dir: filepath.Join(dir, "agent"), bin: bin, ns: netns.None()}
	if err := c.cable(); err != nil {
		return c, fmt.Errorf("make the network: %w", err)
	}
	if _, err := c.server.knarr(ctx, append(append([]string{"up"}, c.server.flags()...), "--", "--node-name", "node-1", "--node-ip", c.server.ip)...); err != nil {
		return c, err
	}
	token, err := c.server.knarr(ctx, "token", "-q", "--data-dir", filepath.Join(c.server.dir, "data"))
	if err != nil {
		return c, err
	}
	join := append([]string{"join", "--server", "https://" + c.server.ip + ":6443", "--token", strings.TrimSpace(token)}, c.agent.flags()...)
	_, err = c.agent.knarr(ctx, append(join, "--", "--node-name", "node-2", "--node-ip", c.agent.ip)...)
	return c, err
}

// cable makes two namespaces and a link between them; each is the other's default route, so that packets to nowhere leave.
func (c *cluster) cable() error {
	var err error
	for _, m := range []*machine{c.server, c.agent} {
		if m.ns, err = newNamespace(); err != nil {
			return err
		}
	}
	in, err := netlink.NewHandleAt(c.server.ns)
	if err != nil {
		return err
	}
	defer in.Close()
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: "eth0", TxQLen: -1})
	veth.PeerName, veth.PeerNamespace = "eth0", netlink.NsFd(c.agent.ns)
	if err := in.LinkAdd(veth); err != nil {
		return err
	}
	if err := c.server.address(c.agent.ip); err != nil {
		return err
	}
	return c.agent.address(c.server.ip)
}

func newNamespace() (netns.NsHandle, error) {
	made := make(chan error, 1)
	var ns netns.NsHandle
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var err error
		ns, err = netns.New()
		made <- err
	}()
	return ns, <-made
}

func (m *machine) address(gateway string) error {
	h, err := netlink.NewHandleAt(m.ns)
	if err != nil {
		return err
	}
	defer h.Close()
	for _, name := range []string{"lo", "eth0"} {
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		if name == "eth0" {
			a, err := netlink.ParseAddr(m.ip + "/24")
			if err != nil {
				return err
			}
			if err := h.AddrAdd(link, a); err != nil {
				return err
			}
		}
		if err := h.LinkSetUp(link); err != nil {
			return err
		}
	}
	gw, err := netlink.ParseAddr(gateway + "/32")
	if err != nil {
		return err
	}
	return h.RouteAdd(&netlink.Route{Gw: gw.IP})
}

// start starts a command in the machine's namespace: a child has the namespace of the thread that makes it.
func (m *machine) start(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(m.ns); err != nil {
			started <- err
			return
		}
		started <- cmd.Start()
	}()
	return <-started
}

// knarr runs the command and returns what it printed.
func (m *machine) knarr(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, m.bin, args...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	err := m.start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return "", fmt.Errorf("knarr %s: %w\n%s", args[0], err, words.String())
	}
	return out.String(), nil
}

// stop ends the daemons and their containers and keeps their logs.
func (c *cluster) stop(keep bool) error {
	if keep {
		fmt.Printf("the cluster runs on; its kubeconfig is %s; its server's namespace is that of process %s\n", c.kubeconfig(), c.server.pid())
		return nil
	}
	var failed []error
	for _, m := range []*machine{c.agent, c.server} {
		if m.pid() != "" {
			if _, err := m.knarr(context.Background(), append([]string{"down", "--purge"}, m.flags()...)...); err != nil {
				failed = append(failed, err)
			}
		}
		if m.ns.IsOpen() {
			failed = append(failed, m.ns.Close())
		}
	}
	return errors.Join(append(failed, os.RemoveAll(c.dir))...)
}

func (m *machine) pid() string {
	b, err := os.ReadFile(filepath.Join(m.dir, "run", "knarrd.pid"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// keepLogs copies the daemons' logs to where the results are.
func (c *cluster) keepLogs(out string) error {
	for _, m := range []*machine{c.server, c.agent} {
		b, err := os.ReadFile(filepath.Join(m.dir, "data", "knarrd.log"))
		if errors.Is(err, syscall.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(out, filepath.Base(m.dir)+".log"), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
