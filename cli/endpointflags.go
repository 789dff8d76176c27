// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/pflag"
)

// endpointFlags say what a container wants of its place on a network.
type endpointFlags struct {
	ip, ip6, mac   string
	aliases, links []string
	priority       int
}

func (p *endpointFlags) add(f *pflag.FlagSet) {
	f.StringVar(&p.ip, "ip", "", "address on it")
	f.StringVar(&p.ip6, "ip6", "", "IPv6 address on it")
	f.StringArrayVar(&p.aliases, "alias", nil, "further name on it")
	f.StringArrayVar(&p.links, "link", nil, "CONTAINER[:ALIAS]: another container by a name that only this one uses")
	f.IntVar(&p.priority, "gw-priority", 0, "the network with the highest has the default route")
}

// settings answers nil if nothing was asked for.
func (p endpointFlags) settings() (*network.EndpointSettings, error) {
	if p.ip == "" && p.ip6 == "" && p.mac == "" && len(p.aliases) == 0 && len(p.links) == 0 && p.priority == 0 {
		return nil, nil
	}
	ep := &network.EndpointSettings{Aliases: p.aliases, Links: p.links, GwPriority: p.priority}
	var cfg network.EndpointIPAMConfig
	for _, a := range []struct {
		flag, text string
		to         *netip.Addr
	}{{"--ip", p.ip, &cfg.IPv4Address}, {"--ip6", p.ip6, &cfg.IPv6Address}} {
		if a.text == "" {
			continue
		}
		var err error
		if *a.to, err = netip.ParseAddr(a.text); err != nil {
			return nil, fmt.Errorf("%s %q: want an address", a.flag, a.text)
		}
		ep.IPAMConfig = &cfg
	}
	if p.mac != "" {
		mac, err := net.ParseMAC(p.mac)
		if err != nil {
			return nil, fmt.Errorf("--mac-address %q: want six bytes, like 02:42:ac:11:00:02", p.mac)
		}
		ep.MacAddress = network.HardwareAddr(mac)
	}
	return ep, nil
}
