// SPDX-License-Identifier: Apache-2.0

package test

import (
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/knarr/knarr/internal/netnstest"
)

// twoMachines are two network namespaces that a cable joins.
func twoMachines(t *testing.T) (a, b string) {
	t.Helper()
	a, b = netnstest.Namespace(t), netnstest.Namespace(t)
	netnstest.In(t, a, func() {
		peer, err := netns.GetFromPath(b)
		if err != nil {
			t.Error(err)
			return
		}
		defer peer.Close()
		veth := netlink.NewVeth(netlink.LinkAttrs{Name: "eth0", TxQLen: -1})
		veth.PeerName, veth.PeerNamespace = "eth0", netlink.NsFd(peer)
		if err := netlink.LinkAdd(veth); err != nil {
			t.Error(err)
		}
	})
	netnstest.Address(t, a, "eth0", "192.168.77.1/24")
	netnstest.Address(t, b, "eth0", "192.168.77.2/24")
	return a, b
}

// TestTwoNodes: a machine joins by the token alone; pods on both reach each other, by name too; what a pod on it refers to
// is there and follows changes; logs and exec reach its kubelet; it outlives a restart; and it may see nothing more than it must.
func TestTwoNodes(t *testing.T) {
	needRoot(t)
	bin := buildBinaries(t)
	one, two := twoMachines(t) // before the instances, which are taken down inside of them
	server, agent := newInstance(t, bin), newInstance(t, bin)
	server.netns, agent.netns = one, two
	server.must(t, "knarr", append(append([]string{"up"}, server.flags()...), "--", "--node-name", "one", "--node-ip", "192.168.77.1")...)
	token := strings.TrimSpace(server.must(t, "knarr", "token", "-q", "--data-dir", server.data))

	join := func(token string) ([]byte, error) {
		args := append([]string{"join", "--timeout", "20s", "--server", "https://192.168.77.1:6443", "--token", token}, agent.flags()...)
		return agent.command("knarr", append(args, "--", "--node-name", "two", "--node-ip", "192.168.77.2")...).CombinedOutput()
	}
	if out, err := join(token + "x"); err == nil || !strings.Contains(string(out), "refuses the token") {
		t.Errorf("a wrong token: %v\n%s", err, out)
	}
	if out, err := join("knarr." + strings.Repeat("0", 64) + ".x"); err == nil || !strings.Contains(string(out), "is not the server of this token") {
		t.Errorf("the token of another cluster: %v\n%s", err, out)
	}
	if out, err := join(token); err != nil {
		t.Fatalf("join: %v\n%s", err, out)
	}
	server.buildPayload(t)
	agent.buildPayload(t)
	server.must(t, "kubectl", "apply", "-f", "testdata/two-nodes.yaml")
	ready := func() {
		t.Helper()
		server.must(t, "kubectl", "wait", "--for=condition=Ready", "pod", "--all", "--timeout=30s")
	}
	ready()
	if out := server.must(t, "kubectl", "get", "events", "--field-selector=type=Warning,reason!=Unhealthy", "-o", "name"); out != "" {
		t.Errorf("warnings: %s", out)
	}
	ask := func(from, what string) string {
		t.Helper()
		return server.must(t, "kubectl", "exec", from, "--", "/payload", "get", what)
	}
	if got := ask("on-one", "http://on-two"); !strings.Contains(got, "on-two") {
		t.Errorf("from the first node to the second, by name: %q", got)
	}
	if got := ask("on-two", "http://on-one"); !strings.Contains(got, "on-one") {
		t.Errorf("from the second node to the first, by name: %q", got)
	}
	if got := server.must(t, "kubectl", "exec", "on-two", "--", "/payload", "cat", "/config/word"); got != "first" {
		t.Errorf("the ConfigMap's file has %q", got)
	}
	if got := server.must(t, "kubectl", "logs", "on-two"); got == "" {
		t.Error("no logs from the second node")
	}
	agent.killDaemon(t)
	agent.must(t, "knarr", append(append([]string{"join"}, agent.flags()...), "--", "--node-name", "two", "--node-ip", "192.168.77.2")...)
	ready()
	if got := server.must(t, "kubectl", "get", "pod", "on-two", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"); got != "0" {
		t.Errorf("the pod was restarted %s times", got)
	}
	if got := ask("on-one", "http://on-two"); !strings.Contains(got, "on-two") {
		t.Errorf("after the agent's restart: %q", got)
	}
}
