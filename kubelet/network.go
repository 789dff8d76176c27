// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/internal/backoff"
	"github.com/knarr/knarr/internal/errs"
	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// errNoCIDR is what the node reports until somebody gives it addresses for its pods.
var errNoCIDR = errs.New(errs.Unavailable, "the node has no spec.podCIDR yet")

// awaitNetwork returns when the node has addresses for its pods and Config.Network is done with them.
func (k *Kubelet) awaitNetwork(ctx context.Context) error {
	if k.cfg.Network == nil {
		return nil
	}
	k.node.SetNetwork(errNoCIDR)
	cidrs, err := k.podCIDRs(ctx)
	if err != nil {
		return err
	}
	pause := backoff.Pause{First: 100 * time.Millisecond, Max: 30 * time.Second}
	for {
		err := k.cfg.Network(ctx, cidrs)
		if err == nil {
			k.node.SetNetwork(nil)
			return nil
		}
		k.log.Error("make the pods' network; trying again", "cidrs", cidrs, "err", err)
		k.node.SetNetwork(err)
		if err := pause.Wait(ctx); err != nil {
			return err
		}
	}
}

// podCIDRs waits until the node's object says which addresses its pods get.
func (k *Kubelet) podCIDRs(ctx context.Context) ([]netip.Prefix, error) {
	nodes := kinds.For[corev1.Node]()
	if _, err := k.cache.Wait(ctx, 1, nodes); err != nil {
		return nil, err
	}
	for ctx.Err() == nil {
		snap := k.cache.Snapshot()
		if n, ok := cache.Get[corev1.Node](snap, "", k.cfg.NodeName); ok {
			if cidrs := prefixes(n.Spec.PodCIDRs); len(cidrs) > 0 {
				return cidrs, nil
			}
		}
		for c, err := range k.cache.Watch(ctx, nodes, snap.RevisionOf(nodes)) {
			if err != nil && !errors.Is(err, errs.Gone) {
				return nil, err
			}
			if err != nil || c.New != nil && c.New.Object.GetName() == k.cfg.NodeName {
				break
			}
		}
	}
	return nil, context.Cause(ctx)
}

func prefixes(cidrs []string) []netip.Prefix {
	var out []netip.Prefix
	for _, c := range cidrs {
		if p, err := netip.ParsePrefix(c); err == nil { // the API server let nothing else in
			out = append(out, p)
		}
	}
	return out
}
