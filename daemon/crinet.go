// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/knarr/knarr/engine/container"
	"github.com/knarr/knarr/engine/network"
)

// criNetwork is the engine network of pods that another's kubelet runs here, once it has said their range.
const criNetwork = "cri"

// criNetworks gives the CRI's sandboxes their network: until a range is said, the one that all containers have.
type criNetworks struct{ *network.Networks }

func (n criNetworks) PodNetwork() string {
	if _, err := n.Get(criNetwork); err == nil {
		return criNetwork
	}
	return container.DefaultNetwork
}

func (n criNetworks) SetPodCIDR(ctx context.Context, cidr netip.Prefix) error {
	if _, err := n.Ensure(ctx, network.Spec{Name: criNetwork, Driver: network.DriverRouted, Subnet: cidr}); err != nil {
		return fmt.Errorf("make the network of pods: %w", err)
	}
	return nil
}
