// SPDX-License-Identifier: Apache-2.0

package rest

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/knarr/knarr/kinds"
)

// Connection is a subresource that hands a request on to somebody else: it is no object but a stream or a text. Routes,
// authorisation, discovery and OpenAPI read this table; the handlers are in package apiserver.
type Connection struct {
	Name    string
	Options schema.GroupVersionKind // of the query's parameters
	Kind    string                  // as discovery tells it
	Verbs   []string
	// Acts: whoever opens one acts upon a container, whatever the method: authorised as create.
	Acts bool
	of   func(*kinds.Type) bool
}

// Proxy is the name of the connections that hand on whole requests, whatever their method.
const Proxy = "proxy"

func connections() []Connection {
	options := corev1.SchemeGroupVersion.WithKind
	both, all := []string{"create", "get"}, []string{"create", "delete", "get", "patch", "update"}
	pods := is[corev1.Pod]
	return []Connection{
		{"log", options("PodLogOptions"), "Pod", []string{"get"}, false, pods},
		{"exec", options("PodExecOptions"), "PodExecOptions", both, true, pods},
		{"attach", options("PodAttachOptions"), "PodAttachOptions", both, true, pods},
		{"portforward", options("PodPortForwardOptions"), "PodPortForwardOptions", both, true, pods},
		{Proxy, options("PodProxyOptions"), "PodProxyOptions", all, false, pods},
		{Proxy, options("ServiceProxyOptions"), "ServiceProxyOptions", all, false, is[corev1.Service]},
		{Proxy, options("NodeProxyOptions"), "NodeProxyOptions", all, false, is[corev1.Node]},
	}
}

// Connections are those of a kind.
func Connections(t *kinds.Type) []Connection {
	var out []Connection
	for _, c := range connections() {
		if c.of(t) {
			out = append(out, c)
		}
	}
	return out
}

// Connecting finds out whether some kind has a connection of that name, and whether opening one is to act.
func Connecting(subresource string) (found, acts bool) {
	switch subresource { // asked for each request: most have none
	case "", "status", "scale":
		return false, false
	}
	for _, c := range connections() {
		if c.Name == subresource {
			return true, c.Acts
		}
	}
	return false, false
}
