// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/knarr/knarr/state/cache"
)

// failedDiscovery is the reason when a server does not say what it serves.
const failedDiscovery = "FailedDiscoveryCheck"

func groupVersion(a *apiregistrationv1.APIService) schema.GroupVersion {
	return schema.GroupVersion{Group: a.Spec.Group, Version: a.Spec.Version}
}

// port is the Service's port, as its default is.
func port(a *apiregistrationv1.APIService) int32 {
	if p := a.Spec.Service.Port; p != nil {
		return *p
	}
	return 443
}

// same: nothing that matters to following is different.
func same(a, b *apiregistrationv1.APIServiceSpec) bool { return equality.Semantic.DeepEqual(a, b) }

// locate says whether an APIService leads somewhere; its reasons and texts are those of kube-aggregator.
func locate(s *cache.Snapshot, a *apiregistrationv1.APIService) apiregistrationv1.APIServiceCondition {
	ns, name, want := a.Spec.Service.Namespace, a.Spec.Service.Name, port(a)
	passed := apiregistrationv1.APIServiceCondition{
		Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue, Reason: "Passed", Message: "all checks passed",
	}
	service, ok := cache.Get[corev1.Service](s, ns, name)
	if !ok {
		return unavailable("ServiceNotFound", fmt.Sprintf("service/%s in %q is not present", name, ns))
	}
	if service.Spec.Type == corev1.ServiceTypeExternalName {
		return passed
	}
	found, portName := false, ""
	for _, p := range service.Spec.Ports {
		if p.Port == want {
			found, portName = true, p.Name
		}
	}
	if !found {
		return unavailable("ServicePortError", fmt.Sprintf("service/%s in %q is not listening on port %d", name, ns, want))
	}
	slices := false
	for slice := range cache.List[discoveryv1.EndpointSlice](s, ns) {
		if slice.Labels[discoveryv1.LabelServiceName] != name {
			continue
		}
		slices = true
		if ready(slice, portName) {
			return passed
		}
	}
	if !slices {
		return unavailable("EndpointsNotFound", fmt.Sprintf("cannot find endpointslices for service/%s in %q", name, ns))
	}
	return unavailable("MissingEndpoints", fmt.Sprintf("endpointslices for service/%s in %q have no addresses with port name %q", name, ns, portName))
}

// ready: the slice has an address that serves the port.
func ready(slice *discoveryv1.EndpointSlice, portName string) bool {
	serves := false
	for _, p := range slice.Ports {
		serves = serves || p.Port != nil && (p.Name == nil && portName == "" || p.Name != nil && *p.Name == portName)
	}
	for _, e := range slice.Endpoints {
		if serves && len(e.Addresses) > 0 && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
			return true
		}
	}
	return false
}
