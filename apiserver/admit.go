// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/knarr/knarr/apiserver/admission"
)

// admitConnection asks webhooks and policies whether a client may be connected with what a container, a pod, a Service or a node
// serves. Reading a log is no connection.
func (s *Server) admitConnection(w http.ResponseWriter, r *http.Request, c call) error {
	how := connection(c, r.URL.Query())
	if how == nil {
		return nil
	}
	return s.core.Steps.Connect(r.Context(), &admission.Request{
		User: c.user, Verb: admission.Connect, Type: c.t, Version: c.v, Namespace: c.namespace, Name: c.name, Subresource: c.subresource,
		Connection: how, Warn: warner(w),
	})
}

// connection is what the query of a request says, as the kind that reviews show; nil when it is no connection.
func connection(c call, q url.Values) runtime.Object {
	yes := func(key string) bool {
		v, err := strconv.ParseBool(q.Get(key))
		return err == nil && v
	}
	var o runtime.Object
	kind := ""
	switch c.t.Plural + "/" + c.subresource {
	case "pods/exec":
		kind, o = "PodExecOptions", &corev1.PodExecOptions{Stdin: yes("stdin"), Stdout: yes("stdout"), Stderr: yes("stderr"), TTY: yes("tty"),
			Container: q.Get("container"), Command: q["command"]}
	case "pods/attach":
		kind, o = "PodAttachOptions", &corev1.PodAttachOptions{Stdin: yes("stdin"), Stdout: yes("stdout"), Stderr: yes("stderr"), TTY: yes("tty"),
			Container: q.Get("container")}
	case "pods/portforward":
		var ports []int32
		for _, p := range q["ports"] {
			if n, err := strconv.ParseInt(p, 10, 32); err == nil {
				ports = append(ports, int32(n))
			}
		}
		kind, o = "PodPortForwardOptions", &corev1.PodPortForwardOptions{Ports: ports}
	case "pods/proxy":
		kind, o = "PodProxyOptions", &corev1.PodProxyOptions{Path: c.rest}
	case "services/proxy":
		kind, o = "ServiceProxyOptions", &corev1.ServiceProxyOptions{Path: c.rest}
	case "nodes/proxy":
		kind, o = "NodeProxyOptions", &corev1.NodeProxyOptions{Path: c.rest}
	default:
		return nil
	}
	o.GetObjectKind().SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kind))
	return o
}
