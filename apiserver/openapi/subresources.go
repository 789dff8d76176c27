// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/knarr/knarr/apiserver/rest"
	"github.com/knarr/knarr/kinds"
)

// subresource is a part of an object, or an order given to it.
type subresource struct {
	name    string
	kind    schema.GroupVersionKind // of the body or the options; empty: the object's own
	verbs   []string                // "get", "create", "update", "patch"
	connect bool                    // a stream or text, not an object: log, exec, portforward
}

// subresources are those the type itself tells of, those apiserver/rest answers, and the ways to the node.
func subresources(t *kinds.Type) []subresource {
	var out []subresource
	if t.HasStatus {
		out = append(out, subresource{name: "status", verbs: []string{"get", "patch", "update"}})
	}
	for _, s := range rest.Subresources(t) {
		verbs := []string{}
		for _, v := range s.Verbs {
			verbs = append(verbs, string(v))
		}
		out = append(out, subresource{name: s.Name, kind: s.Kind, verbs: verbs})
	}
	options := func(kind string) schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind(kind) }
	both := []string{"get", "create"}
	switch t {
	case kinds.For[corev1.Pod]():
		return append(out,
			subresource{"log", options("PodLogOptions"), []string{"get"}, true},
			subresource{"exec", options("PodExecOptions"), both, true},
			subresource{"attach", options("PodAttachOptions"), both, true},
			subresource{"portforward", options("PodPortForwardOptions"), both, true},
			subresource{"proxy", options("PodProxyOptions"), both, true})
	case kinds.For[corev1.Service]():
		return append(out, subresource{"proxy", options("ServiceProxyOptions"), both, true})
	case kinds.For[corev1.Node]():
		return append(out, subresource{"proxy", options("NodeProxyOptions"), both, true})
	}
	return out
}
