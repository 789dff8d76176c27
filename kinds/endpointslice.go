// SPDX-License-Identifier: Apache-2.0

package kinds

import discoveryv1 "k8s.io/api/discovery/v1"

// EndpointSlice is discovery.k8s.io/v1 EndpointSlice.
var EndpointSlice = Kind[discoveryv1.EndpointSlice]{
	Group: "discovery.k8s.io", Version: "v1", Name: "EndpointSlice", Plural: "endpointslices",
}
