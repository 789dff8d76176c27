// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	discoveryv1beta1 "k8s.io/api/discovery/v1beta1"
)

// An endpoint's zone and node were entries of a map.
var endpointSliceVersions = []Served[discoveryv1.EndpointSlice]{
	Alike("discovery.k8s.io", "v1beta1", func(in *discoveryv1beta1.EndpointSlice, out *discoveryv1.EndpointSlice) {
		for i := range in.Endpoints {
			from, to := &in.Endpoints[i], &out.Endpoints[i]
			rest := maps.Clone(from.Topology)
			if zone, ok := rest[corev1.LabelTopologyZone]; ok {
				to.Zone = &zone
				delete(rest, corev1.LabelTopologyZone)
			}
			if to.NodeName != nil && rest[corev1.LabelHostname] == *to.NodeName {
				delete(rest, corev1.LabelHostname)
			}
			if len(rest) > 0 {
				to.DeprecatedTopology = rest
			}
		}
	}, func(in *discoveryv1.EndpointSlice, out *discoveryv1beta1.EndpointSlice) {
		for i := range in.Endpoints {
			from, to := &in.Endpoints[i], &out.Endpoints[i]
			all := maps.Clone(from.DeprecatedTopology)
			if all == nil && (from.Zone != nil || from.NodeName != nil) {
				all = map[string]string{}
			}
			if from.Zone != nil {
				all[corev1.LabelTopologyZone] = *from.Zone
			}
			if _, ok := all[corev1.LabelHostname]; !ok && from.NodeName != nil {
				all[corev1.LabelHostname] = *from.NodeName
			}
			to.Topology = all
		}
	}),
}
