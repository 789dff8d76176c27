// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// nodeAllows is the Node authorizer: what a kubelet may do beside the rules of system:node. Of Secrets, ConfigMaps and
// tokens it gets those that pods bound to its node refer to; of Nodes, Leases and Pods its own.
//
// What it may write into its Node and its pods is judged by the admission step NodeRestriction.
func nodeAllows(s *cache.Snapshot, node string, a Attributes) (bool, string) {
	const none = "no relationship found between node '%s' and this object"
	switch a.Group + "/" + a.Resource {
	case "/secrets", "/configmaps":
		if a.Subresource != "" || a.Name == "" || !(a.Verb == "get" || a.Verb == "list" || a.Verb == "watch") {
			return false, "can only read resources of this type by name"
		}
		return refers(s, node, a, refersTo), fmt.Sprintf(none, node)
	case "/serviceaccounts":
		if a.Verb == "create" && a.Subresource == "token" {
			return refers(s, node, a, uses), fmt.Sprintf(none, node)
		}
		return a.Verb == "get" && a.Subresource == "" && refers(s, node, a, uses), fmt.Sprintf(none, node)
	case "/nodes":
		return nodeSelf(node, a), fmt.Sprintf("node '%s' may only touch itself", node)
	case "/pods":
		return nodePods(s, node, a), fmt.Sprintf("node '%s' may only see pods that are bound to it", node)
	case "coordination.k8s.io/leases":
		own := a.Namespace == corev1.NamespaceNodeLease && (a.Name == node || a.Verb == "create" && a.Name == "")
		return own && verbIn(a.Verb, "get", "create", "update", "patch", "delete"), fmt.Sprintf("node '%s' may only use its own lease", node)
	case "/events", "events.k8s.io/events":
		return verbIn(a.Verb, "create", "update", "patch"), ""
	case "/services", "discovery.k8s.io/endpointslices":
		return verbIn(a.Verb, "get", "list", "watch"), ""
	case "authentication.k8s.io/tokenreviews", "authorization.k8s.io/subjectaccessreviews", "authorization.k8s.io/localsubjectaccessreviews":
		return a.Verb == "create", ""
	}
	return false, ""
}

func verbIn(verb string, list ...string) bool {
	for _, v := range list {
		if v == verb {
			return true
		}
	}
	return false
}

func nodeSelf(node string, a Attributes) bool {
	switch a.Subresource {
	case "":
		if a.Verb == "create" {
			return true // the name is in the body; NodeRestriction compares it
		}
		return a.Name == node && verbIn(a.Verb, "get", "list", "watch", "update", "patch")
	case "status":
		return a.Name == node && verbIn(a.Verb, "get", "update", "patch")
	}
	return false
}

func nodePods(s *cache.Snapshot, node string, a Attributes) bool {
	bound := func() bool {
		pod, ok := cache.Get[corev1.Pod](s, a.Namespace, a.Name)
		return ok && pod.Spec.NodeName == node
	}
	switch a.Subresource {
	case "":
		switch a.Verb {
		case "list", "watch":
			return a.NodeField == node
		case "create":
			return true // mirror pods only: NodeRestriction
		}
		return verbIn(a.Verb, "get", "delete") && bound()
	case "status":
		return verbIn(a.Verb, "get", "update", "patch") && bound()
	case "eviction":
		return a.Verb == "create" && bound()
	}
	return false
}

// refers: a pod that is bound to the node has the relation to what is asked for.
func refers(s *cache.Snapshot, node string, a Attributes, rel func(*corev1.Pod, Attributes) bool) bool {
	for pod := range cache.Indexed[corev1.Pod](s, cache.ByNode, node) {
		if pod.Namespace == a.Namespace && rel(pod, a) {
			return true
		}
	}
	return false
}

func uses(pod *corev1.Pod, a Attributes) bool { return pod.Spec.ServiceAccountName == a.Name }

func refersTo(pod *corev1.Pod, a Attributes) bool {
	for resource, name := range kinds.References(pod) {
		if resource == a.Resource && name == a.Name {
			return true
		}
	}
	return false
}
