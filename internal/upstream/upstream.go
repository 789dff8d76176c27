// SPDX-License-Identifier: Apache-2.0

// Package upstream asks the host's name servers on behalf of a name server of ours.
//
// It reads resolv.conf(5) again whenever that changed, looks behind systemd-resolved's stub, remembers who did not answer, and
// bounds every wait: with no server that answers it fails at once, because the programs that ask wait with it.
//
// Servers starts no goroutine and keeps no socket; Exchange may be called concurrently.
package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

// How long upstreams are waited for. A resolver library gives up after 5 s; we answer before.
const (
	oneUpstream  = 1200 * time.Millisecond
	allUpstreams = 3 * time.Second
	deadFor      = 10 * time.Second // an upstream that did not answer is not asked again for so long
)

// systemdResolved has the real servers where /etc/resolv.conf names only systemd-resolved's own.
const systemdResolved = "/run/systemd/resolve/resolv.conf"

var errNoUpstream = errors.New("there is no upstream name server that answers")

// Config says whom to ask.
type Config struct {
	Servers    []netip.AddrPort // default: those of ResolvConf
	ResolvConf string           // default: /etc/resolv.conf
	Own        []netip.AddrPort // addresses of the asking server itself, which it must not ask
}

// Servers is the list of upstream name servers.
type Servers struct {
	cfg Config
	log *slog.Logger

	mu    sync.Mutex // guards the fields below
	list  []netip.AddrPort
	stamp time.Time // of the file that list was read from
	path  string
	dead  map[netip.AddrPort]time.Time // until when
}

// New reads nothing yet.
func New(cfg Config, log *slog.Logger) *Servers {
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	return &Servers{cfg: cfg, log: log, list: cfg.Servers, dead: map[netip.AddrPort]time.Time{}}
}

// PayloadLimit is what we take by UDP, bytes: below where packets would be cut into fragments.
const PayloadLimit = 1232

// Exchange asks one upstream after the other until one answers. When none is left that may be asked it fails at once: the
// programs of a cluster without a way out must not wait for every name they do not need.
func (u *Servers) Exchange(req *mdns.Msg, tcp bool) (*mdns.Msg, error) {
	deadline := time.Now().Add(allUpstreams)
	err := errNoUpstream
	for _, at := range u.alive() {
		left := min(oneUpstream, time.Until(deadline))
		if left <= 0 {
			break
		}
		client := &mdns.Client{Net: "udp", Timeout: left, UDPSize: PayloadLimit}
		if tcp {
			client.Net = "tcp"
		}
		q := req.Copy()
		q.Id = mdns.Id()
		var reply *mdns.Msg
		if reply, _, err = client.Exchange(q, at.String()); err == nil {
			u.revive(at)
			reply.Id = req.Id
			reply.RecursionAvailable = true
			return reply, nil
		}
		u.bury(at, err)
		err = fmt.Errorf("ask %s: %w", at, err)
	}
	return nil, err
}

func (u *Servers) bury(at netip.AddrPort, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, known := u.dead[at]; !known {
		u.log.Warn("an upstream name server does not answer; names outside the cluster may fail", "server", at, "err", err)
	}
	u.dead[at] = time.Now().Add(deadFor)
}

func (u *Servers) revive(at netip.AddrPort) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.dead, at)
}

// alive lists whom to ask now.
func (u *Servers) alive() []netip.AddrPort {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.cfg.Servers) == 0 {
		u.reread()
	}
	now := time.Now()
	var out []netip.AddrPort
	for _, at := range u.list {
		if until, buried := u.dead[at]; !buried || now.After(until) {
			out = append(out, at)
		}
	}
	return out
}

// reread reads the file again if it changed; asking its time for each question is cheaper than a watch.
func (u *Servers) reread() {
	st, err := os.Stat(u.cfg.ResolvConf)
	if err != nil || (st.ModTime().Equal(u.stamp) && u.path == u.cfg.ResolvConf) {
		return
	}
	u.stamp, u.path = st.ModTime(), u.cfg.ResolvConf
	list, err := readResolvConf(u.cfg.ResolvConf)
	if stub := len(list) > 0 && allStub(list); stub {
		if real, err := readResolvConf(systemdResolved); err == nil && len(real) > 0 {
			list = real
		}
	}
	if err != nil {
		u.log.Warn("the host's name servers cannot be read", "file", u.cfg.ResolvConf, "err", err)
		return
	}
	u.list = nil
	for _, at := range list {
		if !slices.Contains(u.cfg.Own, at) {
			u.list = append(u.list, at)
		}
	}
	u.dead = map[netip.AddrPort]time.Time{}
	u.log.Debug("upstream name servers", "servers", u.list, "file", u.cfg.ResolvConf)
}

func allStub(list []netip.AddrPort) bool {
	for _, at := range list {
		if s := at.Addr().String(); s != "127.0.0.53" && s != "127.0.0.54" {
			return false
		}
	}
	return true
}

func readResolvConf(path string) ([]netip.AddrPort, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseResolvConf(io.LimitReader(f, 64<<10))
}

// maxServers is what resolvers use of a file, and what bounds allUpstreams.
const maxServers = 3

// parseResolvConf reads the nameserver lines of resolv.conf(5).
func parseResolvConf(r io.Reader) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	lines := bufio.NewScanner(r)
	for lines.Scan() && len(out) < maxServers {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			out = append(out, netip.AddrPortFrom(a, 53))
		}
	}
	return out, lines.Err()
}
