// SPDX-License-Identifier: Apache-2.0

// Package controllers lists the control loops of a cluster: one folder each, one line here.
//
// What all of them are made of, and the loop that runs them, is state/reconcile; each is a pure Decide and the Observe that
// feeds it, so that `knarr explain` can show what any of them would do. The list starts nothing and keeps no state.
package controllers

import (
	"net/netip"

	"github.com/knarr/knarr/controllers/certificates"
	"github.com/knarr/knarr/controllers/claims"
	"github.com/knarr/knarr/controllers/cronjob"
	"github.com/knarr/knarr/controllers/daemonset"
	"github.com/knarr/knarr/controllers/deployment"
	"github.com/knarr/knarr/controllers/disruption"
	"github.com/knarr/knarr/controllers/endpoints"
	"github.com/knarr/knarr/controllers/endpointslice"
	"github.com/knarr/knarr/controllers/garbage"
	"github.com/knarr/knarr/controllers/job"
	"github.com/knarr/knarr/controllers/mirroring"
	"github.com/knarr/knarr/controllers/namespace"
	"github.com/knarr/knarr/controllers/nodeipam"
	"github.com/knarr/knarr/controllers/nodelife"
	"github.com/knarr/knarr/controllers/podgarbage"
	"github.com/knarr/knarr/controllers/replicaset"
	"github.com/knarr/knarr/controllers/resourcequota"
	"github.com/knarr/knarr/controllers/rootca"
	"github.com/knarr/knarr/controllers/serviceaccount"
	"github.com/knarr/knarr/controllers/statefulset"
	"github.com/knarr/knarr/state/reconcile"
)

// Config is what the controllers must be told of the cluster.
type Config struct {
	ClusterCIDR netip.Prefix        // addresses of pods, of which each node gets a part
	Signer      certificates.Signer // of certificate signing requests; nil: they are approved, not signed
}

// All lists the controllers; their order means nothing.
func All(c Config) []reconcile.Controller {
	return []reconcile.Controller{
		deployment.Controller(),
		replicaset.Controller(),
		replicaset.ReplicationController(),
		job.Controller(),
		daemonset.Controller(),
		statefulset.Controller(),
		cronjob.Controller(),
		disruption.Controller(),
		claims.Controller(),
		claims.Volumes(),
		endpointslice.Controller(),
		endpoints.Controller(),
		mirroring.Controller(),
		namespace.Controller(),
		serviceaccount.Controller(),
		rootca.Controller(),
		nodelife.Controller(),
		nodeipam.Controller(c.ClusterCIDR),
		podgarbage.Controller(),
		resourcequota.Controller(),
		certificates.Controller(c.Signer),
		garbage.Controller(),
	}
}
