// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/knarr/knarr/internal/upstream"
)

// resolve asks a network's name server from a sandbox.
func (w *world) resolve(from Endpoint, proto, name string, qtype uint16) (answer string) {
	w.in(from.NetnsPath, func() {
		q := new(mdns.Msg).SetQuestion(mdns.Fqdn(name), qtype)
		reply, _, err := (&mdns.Client{Net: proto, Timeout: 2 * time.Second}).Exchange(q, from.NameServer.String()+":53")
		if err != nil {
			answer = err.Error()
			return
		}
		out := []string{mdns.RcodeToString[reply.Rcode]}
		for _, rr := range reply.Answer {
			out = append(out, strings.Fields(rr.String())[4])
		}
		answer = strings.Join(out, " ")
	})
	return answer
}

func TestContainersFindEachOtherByName(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.must(w.n.EnsureDefaults(ctx))
	for _, s := range []Spec{{Name: "front"}, {Name: "back", Internal: true}} {
		_, err := w.n.Create(ctx, s)
		w.must(err)
	}
	attach := func(network, sandbox, path string, aliases ...string) Endpoint {
		e, err := w.n.Attach(ctx, Attachment{Network: network, Sandbox: sandbox, NetnsPath: path, Aliases: aliases})
		w.must(err)
		return e
	}
	webNS := w.namespace("web")
	web, webBack := attach("front", "web", webNS, "Web", "www"), attach("back", "web", webNS, "web")
	db := attach("back", "db", w.namespace("db"), "db")
	other := attach("front", "other", w.namespace("other"), "other")
	if web.Interface != "eth0" || webBack.Interface != "eth1" {
		t.Errorf("interfaces %s, %s", web.Interface, webBack.Interface)
	}
	for _, proto := range []string{"udp", "tcp"} {
		w.expect(proto+" a name of the network", w.resolve(other, proto, "web", mdns.TypeA), "NOERROR "+web.IP.String())
		w.expect(proto+" an alias with the network's name", w.resolve(other, proto, "WWW.front", mdns.TypeA), "NOERROR "+web.IP.String())
	}
	w.expect("no such type", w.resolve(other, "udp", "web", mdns.TypeAAAA), "NOERROR")
	w.expect("reverse", w.resolve(other, "udp", reverse(web), mdns.TypePTR), "NOERROR Web.front.")
	w.expect("a name of the sandbox's other network", w.resolve(web, "udp", "db", mdns.TypeA), "NOERROR "+db.IP.String())
	if got := w.resolve(other, "udp", "db", mdns.TypeA); strings.HasPrefix(got, "NOERROR") {
		t.Errorf("a network that other is not on: %s", got)
	}
	began := time.Now()
	w.expect("nothing leaves an internal network", w.resolve(db, "udp", "example.org", mdns.TypeA), "SERVFAIL")
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("the answer took %v", took)
	}
	w.must(w.n.Detach(ctx, "front", "web"))
	if got := w.resolve(other, "udp", "web", mdns.TypeA); strings.HasPrefix(got, "NOERROR") {
		t.Errorf("after detaching: %s", got)
	}
	w.open()
	w.expect("after a restart", w.resolve(other, "udp", "other", mdns.TypeA), "NOERROR "+other.IP.String())
	if e := w.sandbox("plain", "bridge"); e.NameServer.IsValid() {
		t.Error("the default network has a name server, which Docker's has not")
	}
}

func reverse(e Endpoint) string {
	name, _ := mdns.ReverseAddr(e.IP.String())
	return name
}

func TestAClientsQuestionsGoToTheServersItWasGiven(t *testing.T) {
	s := &nameServer{networks: &Networks{}, id: "n", up: map[string]*upstream.Servers{}}
	own := []netip.Addr{addr("192.0.2.53")}
	endpoints := []Endpoint{{NetworkID: "n", IP: addr("10.0.0.2"), NameServers: own}, {NetworkID: "n", IP: addr("10.0.0.3"), NameServers: own},
		{NetworkID: "other", IP: addr("10.0.0.4"), NameServers: own}, {NetworkID: "n", IP: addr("10.0.0.5")}}
	up := func(client string) *upstream.Servers { return s.upstream(endpoints, addr(client)) }
	if up("10.0.0.2") != up("10.0.0.3") || up("10.0.0.2") == up("10.0.0.5") || up("10.0.0.4") != up("10.0.0.5") || up("10.0.0.9") != up("10.0.0.5") {
		t.Error("a client is answered by other servers than those of its own endpoint on this network")
	}
}
