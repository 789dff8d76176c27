// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"net/netip"
)

// Check compares the kernel with the files and says, one sentence each, where an invariant does not hold. It changes
// nothing; tests and `knarr fsck` call it.
func (n *Networks) Check() ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	links, err := n.ownLinks()
	if err != nil {
		return nil, err
	}
	owner := map[netip.Addr]string{}
	for key, e := range n.endpoints {
		if other := owner[e.IP]; other != "" {
			out = append(out, fmt.Sprintf("address %s belongs to sandbox %s and to sandbox %s", e.IP, other, e.Sandbox))
		}
		owner[e.IP] = e.Sandbox
		if n.networks[key.network] == nil {
			out = append(out, fmt.Sprintf("sandbox %s is on network %s, which does not exist", e.Sandbox, key.network))
		}
		if !links[e.HostLink] {
			out = append(out, fmt.Sprintf("link %s of sandbox %s is missing", e.HostLink, e.Sandbox))
		}
		if !pinned(e.NetnsPath) {
			out = append(out, fmt.Sprintf("network namespace %s of sandbox %s is missing", e.NetnsPath, e.Sandbox))
		}
		delete(links, e.HostLink)
	}
	for _, d := range n.leaving {
		delete(links, d.endpoint.HostLink)
	}
	for name := range links {
		out = append(out, fmt.Sprintf("link %s has no endpoint", name))
	}
	for _, net := range n.networks {
		if net.Bridge == "" {
			continue
		}
		if _, err := n.nl.LinkByName(net.Bridge); err != nil {
			out = append(out, fmt.Sprintf("bridge %s of network %s is missing", net.Bridge, net.Name))
		}
	}
	intact, err := n.table.Intact()
	if err != nil {
		return nil, err
	}
	if !intact {
		out = append(out, fmt.Sprintf("nftables table %s-engine is not what it should be", n.name))
	}
	return out, nil
}
