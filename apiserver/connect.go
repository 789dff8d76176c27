// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/knarr/knarr/apiserver/rest"
	"github.com/knarr/knarr/kinds"
)

// The subresources that hand a request on to somebody else: to the kubelet of a pod's node (log, exec, attach,
// portforward), or to what a pod, a Service or a node serves (proxy).

// connect finds the handler of a subresource that is not data but a connection.
func (s *Server) connect(c call) (func(http.ResponseWriter, *http.Request, call) error, bool) {
	if c.name == "" || !slices.ContainsFunc(rest.Connections(c.t), func(x rest.Connection) bool { return x.Name == c.subresource }) {
		return nil, false
	}
	h, ok := map[string]func(http.ResponseWriter, *http.Request, call) error{
		"log": s.serveLog, "exec": s.serveExec, "attach": s.serveExec, "portforward": s.servePortForward, rest.Proxy: s.serveProxy,
	}[c.subresource]
	return h, ok
}

// pod reads the pod of a call as it is now.
func (s *Server) pod(r *http.Request, c call) (*corev1.Pod, error) {
	e, ok, err := s.core.Find(r.Context(), kinds.For[corev1.Pod](), c.namespace, c.name)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, apierrors.NewNotFound(c.gvr.GroupResource(), c.name)
	}
	return e.Object.(*corev1.Pod), nil
}

// container is the one a client means: the one it named, or the only one.
func container(pod *corev1.Pod, name string) (string, error) {
	var names, all []string
	for _, k := range pod.Spec.Containers {
		names = append(names, k.Name)
	}
	all = append(all, names...)
	for _, k := range pod.Spec.InitContainers {
		all = append(all, k.Name)
	}
	for _, k := range pod.Spec.EphemeralContainers {
		all = append(all, k.Name)
	}
	if name == "" {
		if len(names) == 1 {
			return names[0], nil
		}
		text := fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, strings.Join(names, " "))
		if n := len(pod.Spec.InitContainers); n > 0 {
			text += fmt.Sprintf(" or one of the init containers: [%s]", strings.Join(all[len(names):len(names)+n], " "))
		}
		return "", apierrors.NewBadRequest(text)
	}
	if !slices.Contains(all, name) {
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
	}
	return name, nil
}

// logParams are handed on to the kubelet; others are not.
var logParams = [...]string{"follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream"}

func (s *Server) serveLog(w http.ResponseWriter, r *http.Request, c call) error {
	if r.Method != http.MethodGet {
		return apierrors.NewMethodNotSupported(c.gvr.GroupResource(), c.verb)
	}
	pod, err := s.pod(r, c)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	if err := checkLog(q); err != nil {
		return err
	}
	name, err := container(pod, q.Get("container"))
	if err != nil {
		return err
	}
	if pod.Spec.NodeName == "" {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusOK) // nothing has run: nothing was written
		return nil
	}
	out := url.Values{}
	for _, k := range logParams {
		if v, ok := q[k]; ok {
			out[k] = v
		}
	}
	w.Header().Set("Content-Type", "text/plain")
	return s.toKubelet(w, r, c, pod.Spec.NodeName, "/containerLogs/"+pod.Namespace+"/"+pod.Name+"/"+name, out)
}

func checkLog(q url.Values) error {
	for _, k := range []string{"sinceSeconds", "tailLines", "limitBytes"} {
		text := q.Get(k)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return apierrors.NewBadRequest(fmt.Sprintf("%s: Invalid value: %q: must be a number", k, text))
		}
		if n < 0 || n == 0 && k != "tailLines" {
			return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "get", corev1.Resource("pods"), "",
				fmt.Sprintf("PodLogOptions \"\" is invalid: %s: Invalid value: %d: must be greater than 0", k, n), 0, true)
		}
	}
	if q.Get("sinceSeconds") != "" && q.Get("sinceTime") != "" {
		return apierrors.NewBadRequest("at most one of sinceTime or sinceSeconds may be specified")
	}
	return nil
}

func (s *Server) serveExec(w http.ResponseWriter, r *http.Request, c call) error {
	pod, err := s.running(r, c)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	name, err := container(pod, q.Get("container"))
	if err != nil {
		return err
	}
	out := url.Values{}
	for key, as := range map[string]string{"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"} {
		if yes, err := strconv.ParseBool(q.Get(key)); err == nil && yes {
			out.Set(as, "1")
		}
	}
	if !out.Has("input") && !out.Has("output") && !out.Has("error") {
		return apierrors.NewBadRequest("you must specify at least 1 of stdin, stdout, stderr")
	}
	if c.subresource == "exec" {
		if len(q["command"]) == 0 {
			return apierrors.NewBadRequest("you must specify at least one command for the container")
		}
		out["command"] = q["command"]
	}
	path := "/" + c.subresource + "/" + pod.Namespace + "/" + pod.Name + "/" + name
	if translating(r) {
		return s.translate(w, r, c, pod.Spec.NodeName, path, out)
	}
	return s.toKubelet(w, r, c, pod.Spec.NodeName, path, out)
}

// running is a pod that has a node.
func (s *Server) running(r *http.Request, c call) (*corev1.Pod, error) {
	pod, err := s.pod(r, c)
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("cannot exec into a container in a completed pod; current phase is %s", pod.Status.Phase))
	}
	return pod, nil
}

func (s *Server) servePortForward(w http.ResponseWriter, r *http.Request, c call) error {
	pod, err := s.running(r, c)
	if err != nil {
		return err
	}
	out := url.Values{}
	if v, ok := r.URL.Query()["ports"]; ok {
		out["port"] = v
	}
	if tunnelled(r) {
		return s.tunnel(w, r, c, pod)
	}
	return s.toKubelet(w, r, c, pod.Spec.NodeName, "/portForward/"+pod.Namespace+"/"+pod.Name, out)
}
