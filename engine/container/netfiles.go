// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// hostsFile is /etc/hosts of a container or sandbox. gateway is what "host-gateway" stands for.
func hostsFile(addresses []netip.Addr, hostname, domain string, extra []string, gateway netip.Addr) []byte {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n")
	b.WriteString("::1\tlocalhost ip6-localhost ip6-loopback\n")
	b.WriteString("fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	names := hostname
	if domain != "" {
		names = hostname + "." + domain + " " + hostname
	}
	for _, ip := range addresses {
		if ip.IsValid() && hostname != "" {
			fmt.Fprintf(&b, "%s\t%s\n", ip, names)
		}
	}
	for _, h := range extra {
		name, addr, ok := cutHost(h)
		if addr == hostGateway {
			if !gateway.IsValid() {
				continue
			}
			addr = gateway.String()
		}
		if ok {
			fmt.Fprintf(&b, "%s\t%s\n", addr, name)
		}
	}
	return []byte(b.String())
}

// mergeLines turns what a file has into what it shall have now: lines of old that new has not go, those of new that old had
// not are put in their place.
func mergeLines(have, old, new []byte) []byte {
	if bytes.Equal(have, old) {
		return new
	}
	lines := func(b []byte) []string { return slices.Collect(strings.Lines(string(b))) }
	was, is := lines(old), lines(new)
	var out, fresh []string
	for _, l := range is {
		if !slices.Contains(was, l) {
			fresh = append(fresh, l)
		}
	}
	for _, l := range lines(have) {
		if !slices.Contains(was, l) || slices.Contains(is, l) {
			out = append(out, l)
			continue
		}
		out, fresh = append(out, fresh...), nil
	}
	return []byte(strings.Join(append(out, fresh...), ""))
}

// resolvers is what a resolv.conf says.
type resolvers struct{ servers, search, options []string }

func parseResolvConf(text string) resolvers {
	var r resolvers
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			r.servers = append(r.servers, f[1])
		case "search", "domain":
			r.search = f[1:]
		case "options":
			r.options = append(r.options, f[1:]...)
		}
	}
	return r
}

// without drops the name servers that a namespace of its own cannot reach.
func (r resolvers) withoutLoopback() resolvers {
	r.servers = slices.DeleteFunc(slices.Clone(r.servers), func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err != nil || a.IsLoopback()
	})
	return r
}

// over lays what was asked for over r, list by list. A search list of "." alone means none.
func (r resolvers) over(servers, search, options []string) resolvers {
	if len(servers) > 0 {
		r.servers = servers
	}
	if len(search) > 0 {
		r.search = search
	}
	if slices.Equal(r.search, []string{"."}) {
		r.search = nil
	}
	if len(options) > 0 {
		r.options = options
	}
	return r
}

func (r resolvers) file() []byte {
	var b strings.Builder
	for _, s := range r.servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(r.search) > 0 {
		b.WriteString("search " + strings.Join(r.search, " ") + "\n")
	}
	if len(r.options) > 0 {
		b.WriteString("options " + strings.Join(r.options, " ") + "\n")
	}
	return []byte(b.String())
}
